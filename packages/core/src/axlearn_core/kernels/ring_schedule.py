"""Which blocks of attention each device of a ring computes, and when: known before anything runs.

The sequence is cut into 2n chunks for n devices, two for each. Keys and values travel; after s
hops device i holds those of device i - s. What a mask rules out of the block of a query chunk and
a key chunk is left out of the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import NamedTuple

from axlearn_core.kernels.masks import BlockKind, Mask

Layout = tuple[tuple[int, int], ...]
"""The two chunks of each device."""


class Pair(NamedTuple):
    """One of a device's query chunks with one of the key chunks that it holds."""

    query: int  # 0 or 1
    key: int  # 0 or 1
    kinds: tuple[BlockKind, ...]  # what the mask says of it, on each device


class Turn(NamedTuple):
    """What happens between two moves of keys and values."""

    shift: int  # device i holds the keys of device i - shift
    hop: int  # how far they travel before the next turn, 0 after the last
    pairs: tuple[Pair, ...]  # without those that are empty on every device

    @property
    def cost(self) -> int:
        """How many blocks the busiest device computes, for which the others wait."""
        kinds = zip(*(pair.kinds for pair in self.pairs), strict=True)
        return max(sum(kind is not BlockKind.EMPTY for kind in of_one) for of_one in kinds)


@dataclass(frozen=True)
class Schedule:
    """What a ring does, turn after turn."""

    layout: Layout
    turns: tuple[Turn, ...]  # without those in which no device has anything to do

    @property
    def devices(self) -> int:
        return len(self.layout)

    @property
    def cost(self) -> int:
        return sum(turn.cost for turn in self.turns)

    @property
    def home(self) -> int:
        """How far keys have to travel after the last turn to be where they began."""
        return -self.turns[-1].shift if self.turns else 0

    @property
    def moves(self) -> bool:
        """Whether chunks must leave the device on which they came."""
        return self.layout != contiguous(self.devices)


def schedule(mask: Mask, query_length: int, key_length: int, devices: int) -> Schedule:
    """Returns the schedule in which the devices wait least, chunks staying where they are if equal.

    A causal mask gives 2n chunks in order 3 + 4(n - 1) blocks of time, since the last device needs
    all keys and the others wait for it, and the balanced order 3 + 2(n - 1).
    """
    layouts = contiguous(devices), balanced(devices)
    return min((_plan(mask, query_length, key_length, x) for x in layouts), key=lambda x: x.cost)


def contiguous(devices: int) -> Layout:
    """Chunks 2i and 2i + 1 on device i, as the sequence comes."""
    return tuple((2 * i, 2 * i + 1) for i in range(devices))


def balanced(devices: int) -> Layout:
    """Chunks i and 2n - 1 - i on device i: an early and a late one (arXiv:2407.21783, 3.3.2)."""
    return tuple((i, 2 * devices - 1 - i) for i in range(devices))


def _plan(mask: Mask, query_length: int, key_length: int, layout: Layout) -> Schedule:
    devices = len(layout)
    queries, keys = query_length // (2 * devices), key_length // (2 * devices)

    def kind(query_chunk: int, key_chunk: int) -> BlockKind:
        return mask.block(_chunk(query_chunk, queries), _chunk(key_chunk, keys))

    def pairs(shift: int) -> tuple[Pair, ...]:
        every = (
            Pair(q, k, tuple(kind(layout[i][q], layout[i - shift][k]) for i in range(devices)))
            for q in (0, 1)
            for k in (0, 1)
        )
        return tuple(pair for pair in every if set(pair.kinds) != {BlockKind.EMPTY})

    busy = {shift: found for shift in range(devices) if (found := pairs(shift))}
    hops = (after - shift for shift, after in pairwise(busy))
    turns = (Turn(shift, hop, busy[shift]) for shift, hop in zip_longest(busy, hops, fillvalue=0))
    return Schedule(layout, tuple(turns))


def _chunk(index: int, length: int) -> range:
    return range(index * length, (index + 1) * length)
