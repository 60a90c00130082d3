"""Which blocks of attention each device of a ring computes, and when: known before anything runs.

The sequence is cut into 2n chunks for n devices, two for each. Keys and values travel; after s
hops device i holds those of device i - s. What a mask rules out of the block of a query chunk and
a key chunk is left out of the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from axlearn_core.kernels.masks import BlockKind, Mask

Layout = tuple[tuple[int, int], ...]
"""The two chunks of each device."""


class Pair(NamedTuple):
    """One of a device's query chunks with one of the key chunks that it holds."""

    query: int  # 0 or 1
    key: int  # 0 or 1
    kinds: tuple[BlockKind, ...]  # what the mask says of it, on any device


class Turn(NamedTuple):
    """What happens between two moves of keys and values."""

    hop: int  # how far they travel before the next turn, 0 after the last
    pairs: tuple[Pair, ...]  # without those that are empty on every device
    shift: int  # device i holds the keys of device i - shift
    choices: tuple[tuple[int, ...], ...]  # by pair and device, the index of its kind

    @property
    def cost(self) -> int:
        """How many blocks the busiest device computes, for which the others wait."""
        busy = (
            [pair.kinds[choice] is not BlockKind.EMPTY for choice in choices]
            for pair, choices in zip(self.pairs, self.choices, strict=True)
        )
        return max(map(sum, zip(*busy, strict=True)), default=0)


@dataclass(frozen=True)
class Schedule:
    """What a ring does, turn after turn."""

    layout: Layout
    turns: tuple[Turn, ...]  # after the first, those in which some device has something to do

    @property
    def devices(self) -> int:
        return len(self.layout)

    @property
    def cost(self) -> int:
        return sum(turn.cost for turn in self.turns)

    @property
    def home(self) -> int:
        """How far keys have to travel after the last turn to be where they began."""
        return -self.turns[-1].shift

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

    def blocks(shift: int) -> dict[tuple[int, int], list[BlockKind]]:
        """The kinds of a turn's pairs on each device, without those that are empty on all."""
        kinds = {
            (q, k): [kind(layout[i][q], layout[i - shift][k]) for i in range(devices)]
            for q in (0, 1)
            for k in (0, 1)
        }
        return {pair: found for pair, found in kinds.items() if set(found) != {BlockKind.EMPTY}}

    # The first turn is where keys begin, whether or not anything is to be done.
    found = {shift: blocks(shift) for shift in range(devices)}
    busy = {shift: pairs for shift, pairs in found.items() if pairs or shift == 0}
    hops = [after - shift for shift, after in pairwise([*busy, *list(busy)[-1:]])]
    turns = map(_turn, busy, hops, busy.values())
    return Schedule(layout, tuple(turns))


def _turn(shift: int, hop: int, blocks: dict[tuple[int, int], list[BlockKind]]) -> Turn:
    pairs = tuple(
        Pair(q, k, tuple(kind for kind in BlockKind if kind in kinds))
        for (q, k), kinds in blocks.items()
    )
    choices = (
        tuple(pair.kinds.index(kind) for kind in kinds)
        for pair, kinds in zip(pairs, blocks.values(), strict=True)
    )
    return Turn(hop, pairs, shift, tuple(choices))


def _chunk(index: int, length: int) -> range:
    return range(index * length, (index + 1) * length)
