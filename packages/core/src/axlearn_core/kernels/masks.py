"""Attention masks as an algebra: `causal() & window(4096) & same_segment()`.

A mask is a symbol until a kernel consumes it. A kernel may ask for the booleans (`evaluate`), or
for what is known of a whole block before anything runs (`block`), and skip the block. A mask is
also a word: `causal & window(4096) & same_segment` in an override or a file.
"""

from __future__ import annotations

import enum
import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from axlearn_core.config import Word
from axlearn_core.kernels.algebra import parse_algebra

if TYPE_CHECKING:
    import jax

    Array = jax.Array | np.ndarray[Any, Any]


class BlockKind(enum.Enum):
    """What a mask allows within a rectangle of queries and keys."""

    EMPTY = "empty"  # no pair
    FULL = "full"  # every pair
    PARTIAL = "partial"  # some pairs, or unknown before running


class Grid(NamedTuple):
    """The coordinates of queries and keys, shaped so that they broadcast against each other."""

    query: Any  # [(batch,) query, 1] int
    key: Any  # [(batch,) 1, key] int
    query_segment: Any | None  # [batch, query, 1] int, or None
    key_segment: Any | None  # [batch, 1, key] int, or None


class Mask(Word):
    """Says which query may attend to which key. Immutable, hashable, compared by value."""

    @classmethod
    def parse(cls, text: str) -> Mask:
        """Reads an algebra of `full`, `causal`, `window(size)`, `prefix(length)`, `chunk(size)` and
        `same_segment`.

        Raises:
            ValueError: if the text is something else.
        """
        mask: Mask = parse_algebra(text, _TERMS)
        return mask

    @property
    def within_segment(self) -> Mask:
        """What is left of the mask where all tokens are of one segment."""
        return self

    @property
    def needs_segments(self) -> bool:
        """Whether `evaluate` needs the segments of queries and keys."""
        return False

    @property
    def includes_self(self) -> bool:
        """Whether a query surely may attend to a key at its own position and of its segment."""
        return False

    @property
    def is_relative(self) -> bool:
        """Whether only the distance of query and key matters, not where their sequence begins.

        If so, documents packed in one row may count their positions from the row's beginning.
        """
        return True

    @property
    def reach(self) -> int | None:
        """How many of the last positions a query sees at most, its own included; None is all."""
        return None

    def allows(self, grid: Grid) -> Any:
        """Returns booleans that broadcast to [(batch,) query, key]."""
        raise NotImplementedError

    def block(self, queries: range, keys: range) -> BlockKind:
        """Returns what is known of a block where positions count 0, 1, 2, ...

        Conservative: PARTIAL may turn out empty or full; EMPTY and FULL are certain.

        Args:
            queries: Positions of the block's queries, not empty, step 1.
            keys: Positions of its keys, the same way.
        """
        raise NotImplementedError

    def evaluate(
        self,
        query_positions: Array,
        key_positions: Array,
        query_segments: Array | None = None,
        key_segments: Array | None = None,
    ) -> Any:
        """Returns a boolean array that broadcasts to [batch, query, key]; true is allowed.

        Args:
            query_positions: [query] or [batch, query] int, numpy or jax.
            key_positions: [key] or [batch, key] int.
            query_segments: [batch, query] int; equal numbers belong together.
            key_segments: [batch, key] int.

        Raises:
            ValueError: if the mask speaks of segments and none are given.
        """
        if self.needs_segments and (query_segments is None or key_segments is None):
            raise ValueError(
                f"mask '{self}' compares segments, but query_segments or key_segments is None: "
                "give both, or leave same_segment() out of the mask"
            )
        return self.allows(
            Grid(
                query_positions[..., :, None],
                key_positions[..., None, :],
                None if query_segments is None else query_segments[..., :, None],
                None if key_segments is None else key_segments[..., None, :],
            )
        )

    def __and__(self, other: Mask) -> Mask:
        parts = _flatten(And, (self, other))
        return _join(And, [part for part in parts if part != full()])

    def __or__(self, other: Mask) -> Mask:
        parts = _flatten(Or, (self, other))
        return full() if full() in parts else _join(Or, parts)

    def __invert__(self) -> Mask:
        return Not(self)

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class Full(Mask):
    @property
    def includes_self(self) -> bool:
        return True

    def allows(self, grid: Grid) -> Any:
        return np.ones((1, 1), bool)

    def block(self, queries: range, keys: range) -> BlockKind:
        return BlockKind.FULL

    def __str__(self) -> str:
        return "full"


@dataclass(frozen=True, repr=False)
class Causal(Mask):
    @property
    def includes_self(self) -> bool:
        return True

    def allows(self, grid: Grid) -> Any:
        return grid.key <= grid.query

    def block(self, queries: range, keys: range) -> BlockKind:
        return _kind(some=keys[0] <= queries[-1], every=keys[-1] <= queries[0])

    def __str__(self) -> str:
        return "causal"


@dataclass(frozen=True, repr=False)
class Window(Mask):
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(
                f"window size (={self.size}) must be at least 1, which is the query's own position"
            )

    @property
    def includes_self(self) -> bool:
        return True

    @property
    def reach(self) -> int | None:
        return self.size

    def allows(self, grid: Grid) -> Any:
        return abs(grid.query - grid.key) < self.size

    def block(self, queries: range, keys: range) -> BlockKind:
        ahead, behind = keys[-1] - queries[0], queries[-1] - keys[0]
        # The ranges overlap unless one of the two is negative; the gap is then its size.
        return _kind(some=max(0, -ahead, -behind) < self.size, every=max(ahead, behind) < self.size)

    def __str__(self) -> str:
        return f"window({self.size})"


@dataclass(frozen=True, repr=False)
class Prefix(Mask):
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"prefix length (={self.length}) must be at least 1")

    @property
    def is_relative(self) -> bool:
        return False

    def allows(self, grid: Grid) -> Any:
        return grid.key < self.length

    def block(self, queries: range, keys: range) -> BlockKind:
        return _kind(some=keys[0] < self.length, every=keys[-1] < self.length)

    def __str__(self) -> str:
        return f"prefix({self.length})"


@dataclass(frozen=True, repr=False)
class Chunk(Mask):
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"chunk size (={self.size}) must be at least 1")

    @property
    def includes_self(self) -> bool:
        return True

    @property
    def is_relative(self) -> bool:
        return False

    @property
    def reach(self) -> int | None:
        return self.size

    def allows(self, grid: Grid) -> Any:
        return _quotient(grid.query, self.size) == _quotient(grid.key, self.size)

    def block(self, queries: range, keys: range) -> BlockKind:
        first_query, last_query = queries[0] // self.size, queries[-1] // self.size
        first_key, last_key = keys[0] // self.size, keys[-1] // self.size
        return _kind(
            some=first_key <= last_query and first_query <= last_key,
            every=first_query == last_query == first_key == last_key,
        )

    def __str__(self) -> str:
        return f"chunk({self.size})"


@dataclass(frozen=True, repr=False)
class SameSegment(Mask):
    @property
    def within_segment(self) -> Mask:
        return full()

    @property
    def needs_segments(self) -> bool:
        return True

    @property
    def includes_self(self) -> bool:
        return True

    def allows(self, grid: Grid) -> Any:
        return grid.query_segment == grid.key_segment

    def block(self, queries: range, keys: range) -> BlockKind:
        return BlockKind.PARTIAL

    def __str__(self) -> str:
        return "same_segment"


@dataclass(frozen=True, repr=False)
class And(Mask):
    masks: tuple[Mask, ...]

    @property
    def within_segment(self) -> Mask:
        return functools.reduce(operator.and_, (mask.within_segment for mask in self.masks))

    @property
    def needs_segments(self) -> bool:
        return any(mask.needs_segments for mask in self.masks)

    @property
    def is_relative(self) -> bool:
        return all(mask.is_relative for mask in self.masks)

    @property
    def includes_self(self) -> bool:
        return all(mask.includes_self for mask in self.masks)

    @property
    def reach(self) -> int | None:
        known = [mask.reach for mask in self.masks if mask.reach is not None]
        return min(known, default=None)

    def allows(self, grid: Grid) -> Any:
        return functools.reduce(operator.and_, (mask.allows(grid) for mask in self.masks))

    def block(self, queries: range, keys: range) -> BlockKind:
        kinds = {mask.block(queries, keys) for mask in self.masks}
        return _kind(some=BlockKind.EMPTY not in kinds, every=kinds == {BlockKind.FULL})

    def __str__(self) -> str:
        return " & ".join(f"({mask})" if isinstance(mask, Or) else str(mask) for mask in self.masks)


@dataclass(frozen=True, repr=False)
class Or(Mask):
    masks: tuple[Mask, ...]

    @property
    def within_segment(self) -> Mask:
        return functools.reduce(operator.or_, (mask.within_segment for mask in self.masks))

    @property
    def needs_segments(self) -> bool:
        return any(mask.needs_segments for mask in self.masks)

    @property
    def is_relative(self) -> bool:
        return all(mask.is_relative for mask in self.masks)

    @property
    def includes_self(self) -> bool:
        return any(mask.includes_self for mask in self.masks)

    @property
    def reach(self) -> int | None:
        known = [mask.reach for mask in self.masks if mask.reach is not None]
        return max(known) if len(known) == len(self.masks) else None

    def allows(self, grid: Grid) -> Any:
        return functools.reduce(operator.or_, (mask.allows(grid) for mask in self.masks))

    def block(self, queries: range, keys: range) -> BlockKind:
        kinds = {mask.block(queries, keys) for mask in self.masks}
        return _kind(some=kinds != {BlockKind.EMPTY}, every=BlockKind.FULL in kinds)

    def __str__(self) -> str:
        return " | ".join(map(str, self.masks))


@dataclass(frozen=True, repr=False)
class Not(Mask):
    mask: Mask

    @property
    def within_segment(self) -> Mask:
        return ~self.mask.within_segment

    @property
    def needs_segments(self) -> bool:
        return self.mask.needs_segments

    @property
    def is_relative(self) -> bool:
        return self.mask.is_relative

    def allows(self, grid: Grid) -> Any:
        return ~self.mask.allows(grid)

    def block(self, queries: range, keys: range) -> BlockKind:
        kind = self.mask.block(queries, keys)
        return _kind(some=kind is not BlockKind.FULL, every=kind is BlockKind.EMPTY)

    def __invert__(self) -> Mask:
        return self.mask

    def __str__(self) -> str:
        return f"~({self.mask})" if isinstance(self.mask, (And, Or)) else f"~{self.mask}"


def full() -> Mask:
    """Every query attends to every key."""
    return Full()


def causal() -> Mask:
    """A query attends to the keys at its own position and before: `key <= query`."""
    return Causal()


def window(size: int) -> Mask:
    """A query attends to keys closer than `size` positions: `|query - key| < size`.

    `causal() & window(size)` is the usual sliding window, the last `size` positions with the
    query's own (transformers' `sliding_window` counts the same way); alone it is an encoder's
    local attention, which looks both ways.
    """
    return Window(size)


def prefix(length: int) -> Mask:
    """Every query attends to the first `length` keys; a prefix LM is `causal() | prefix(n)`."""
    return Prefix(length)


def chunk(size: int) -> Mask:
    """A query attends to keys of its own chunk, the sequence being cut every `size` positions.

    `causal() & chunk(size)` is the chunked local attention of Llama 4.
    """
    return Chunk(size)


def same_segment() -> Mask:
    """A query attends to keys of its own segment: documents packed in one row stay apart."""
    return SameSegment()


class Split(NamedTuple):
    """A mask as `positions & same_segment`, or as `positions` alone; see `split_segments`."""

    positions: Mask  # speaks of no segments
    within_segments: bool


def split_segments(mask: Mask) -> Split | None:
    """Takes same_segment out of a mask, for kernels that know of segments by themselves.

    Returns None for a mask that speaks of segments in another way, such as an alternative to them.
    """
    parts = _flatten(And, (mask,))
    rest = [part for part in parts if part != same_segment()]
    if any(part.needs_segments for part in rest):
        return None
    return Split(_join(And, [part for part in rest if part != full()]), len(rest) < len(parts))


_TERMS = {make.__name__: make for make in (full, causal, window, prefix, chunk, same_segment)}


def _quotient(positions: Any, size: int) -> Any:
    """Divides without a look at signs, since no position is negative.

    Pallas asks the device of this process how to take a sign, and a TPU that is compiled for may
    not be here.
    """
    if isinstance(positions, np.ndarray):
        return positions // size
    from jax import lax

    return lax.div(positions, lax.full_like(positions, size))


def _kind(*, some: bool, every: bool) -> BlockKind:
    if not some:
        return BlockKind.EMPTY
    return BlockKind.FULL if every else BlockKind.PARTIAL


def _flatten(kind: type[And] | type[Or], masks: Iterable[Mask]) -> list[Mask]:
    parts = [part for mask in masks for part in (mask.masks if isinstance(mask, kind) else (mask,))]
    return list(dict.fromkeys(parts))  # x & x = x


def _join(kind: type[And] | type[Or], parts: list[Mask]) -> Mask:
    if not parts:
        return full()
    return parts[0] if len(parts) == 1 else kind(tuple(parts))
