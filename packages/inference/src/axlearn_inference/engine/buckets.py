"""Shapes that are compiled, of which the smallest that fits is used."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Of one call of the model: so many sequences, ids of each, and pages of each."""

    rows: int
    ids: int
    pages: int


def sizes_up_to(largest: int, factor: int, smallest: int = 1) -> list[int]:
    """Returns smallest, smallest * factor, ... and, as the last, the largest."""
    sizes = []
    size = smallest
    while size < largest:
        sizes.append(size)
        size *= factor
    return [*sizes, largest]


class Buckets:
    """The shapes of an engine: decoding has one id per row, and few sizes of everything else."""

    def __init__(self, *, slots: int, prefill_tokens: int, page_size: int, max_length: int):
        self._slots = sizes_up_to(slots, 4)
        self._ids = sizes_up_to(min(prefill_tokens, max_length), 4, smallest=16)
        self._prefill_tokens = prefill_tokens
        self._pages = sizes_up_to(-(-max_length // page_size), 4, smallest=4)

    def steps(self) -> list[Shape]:
        """Returns every shape that `fit` may return for one step.

        One id per row is padded to all slots: what `decode` cannot do is rare.
        """
        calls = [(self._slots[-1], 1)]
        for ids in self._ids:
            calls += [(rows, ids) for rows in sorted({1, self.most_rows(ids)})]
        return [Shape(rows, ids, pages) for rows, ids in calls for pages in self._pages]

    def decoding(self) -> list[Shape]:
        """Returns every shape that `fit` may return for decoding."""
        return [Shape(rows, 1, pages) for rows in self._slots for pages in self._pages]

    def ids(self, count: int) -> int:
        """Returns to how many ids so many are padded."""
        return 1 if count == 1 else _smallest(self._ids, count)

    def most_rows(self, ids: int) -> int:
        """Returns how many sequences one call takes."""
        most = self._slots[-1]
        return most if ids == 1 else max(1, min(most, self._prefill_tokens // ids))

    def fit(self, rows: int, ids: int, pages: int, *, decoding: bool = False) -> Shape:
        """Returns the smallest shape for so many rows, at most `most_rows(ids)`."""
        sizes = [self._slots[-1]] if ids == 1 else sorted({1, self.most_rows(ids)})
        if decoding:
            sizes = self._slots
        return Shape(_smallest(sizes, rows), ids, _smallest(self._pages, pages))


def _smallest(sizes: list[int], needed: int) -> int:
    return next(size for size in sizes if size >= needed)
