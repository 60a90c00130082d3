"""Devices in a ring, each with two chunks of a sequence, and what they send each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.kernels.masks import BlockKind
from axlearn_core.kernels.ring_schedule import Pair, Schedule

T = TypeVar("T")

Halves = tuple[Any, Any]
"""A device's two chunks of some array, or two arrays that belong to them."""

Routes = list[tuple[int, int]]
"""From which device to which."""


class Now(NamedTuple):
    """A turn; see `Turn`."""

    hop: int
    pairs: tuple[Pair, ...]
    shift: Any  # int
    choices: Any  # [pairs, devices] int


@dataclass(frozen=True)
class Ring:
    """What a device of the ring knows; all but the schedule differs between devices."""

    axes: tuple[str, ...]  # the mesh axes along which it lies
    schedule: Schedule

    @property
    def devices(self) -> int:
        return len(self.schedule.layout)

    def pass_on(self, arrays: T, hop: int) -> T:
        """Sends arrays to the device that is `hop` further on."""
        if hop % self.devices == 0:
            return arrays
        return self._send(arrays, [(i, (i + hop) % self.devices) for i in range(self.devices)])

    def arrange(self, x: jax.Array, axis: int) -> Halves:
        """Cuts this device's part of a sequence, and brings all chunks to the schedule's order.

        Chunk 2i is the first of device i and 2i + 1 its second. Of the two that a device shall
        have, one is even and one odd, so that each kind takes one permutation.
        """
        even, odd = jnp.split(x, 2, axis)
        if not self.schedule.moves:
            return even, odd
        return self._sort(self._send(even, self._routes(0)), self._send(odd, self._routes(1)))

    def restore(self, halves: Halves, axis: int) -> jax.Array:
        """Undoes `arrange`."""
        if self.schedule.moves:
            even, odd = self._sort(*halves)
            halves = (
                self._send(even, _back(self._routes(0))),
                self._send(odd, _back(self._routes(1))),
            )
        return jnp.concatenate(halves, axis)

    def over_turns(self, step: Callable[[Now, T], T], carry: T) -> T:
        """Takes the step in each turn; equal ones in a row are a loop, and compile once."""
        for (hop, pairs), group in groupby(self.schedule.turns, lambda turn: turn[:2]):
            turns = list(group)
            shifts = np.array([turn.shift for turn in turns], np.int32)
            choices = np.array([turn.choices for turn in turns], np.int32)
            if len(turns) == 1:
                carry = step(Now(hop, pairs, shifts[0], choices[0]), carry)
                continue

            def body(carry: T, x: Any, hop: int = hop, pairs: Any = pairs) -> tuple[T, None]:
                return step(Now(hop, pairs, *x), carry), None

            carry, _ = jax.lax.scan(body, carry, (shifts, choices))
        return carry

    def positions(self, half: int, length: int, shift: Any = 0) -> jax.Array:
        """Returns the places of a chunk of this device, or of the one that is `shift` before."""
        chunks = jnp.array([chunks[half] for chunks in self.schedule.layout], jnp.int32)
        return chunks[(self._index() - shift) % self.devices] * length + jnp.arange(length)

    def by_kind(self, pair: Pair, choices: Any, step: Callable[[BlockKind, T], T], carry: T) -> T:
        """Takes the step for what the mask says of a pair on this device, none if it is empty.

        Args:
            pair: with the kinds there are.
            choices: [devices] int, which of them each device has.
            step: takes the kind and what to carry on.
            carry: from the step before.
        """

        def branch(kind: BlockKind) -> Callable[[T], T]:
            return lambda carry: carry if kind is BlockKind.EMPTY else step(kind, carry)

        if len(pair.kinds) == 1:
            return branch(pair.kinds[0])(carry)
        branches = [branch(kind) for kind in pair.kinds]
        chosen: T = jax.lax.switch(jnp.asarray(choices)[self._index()], branches, carry)
        return chosen

    def _index(self) -> Any:
        return jax.lax.axis_index(self.axes) if self.devices > 1 else 0

    def _routes(self, parity: int) -> Routes:
        owners = {chunk: i for i, chunks in enumerate(self.schedule.layout) for chunk in chunks}
        return [(i, owners[2 * i + parity]) for i in range(self.devices)]

    def _sort(self, first: jax.Array, second: jax.Array) -> Halves:
        """Changes the two where the schedule has the odd chunk first."""
        changed = jnp.array([chunks[0] % 2 == 1 for chunks in self.schedule.layout])[self._index()]
        return jnp.where(changed, second, first), jnp.where(changed, first, second)

    def _send(self, arrays: T, routes: Routes) -> T:
        sent: T = jax.lax.ppermute(arrays, self.axes, routes)
        return sent


def _back(routes: Routes) -> Routes:
    return [(to, start) for start, to in routes]
