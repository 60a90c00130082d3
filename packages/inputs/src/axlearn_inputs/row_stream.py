"""Rows one after another: what inputs are mixed from, and made into batches."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from axlearn_core.training.input import Batch, BatchIterator, BatchShape, Input
from axlearn_inputs.packers import Row
from axlearn_inputs.rows import batch_shape, empty_batch, fill_row


class RowStream(Protocol):
    """The rows of an input in their global order, which every process goes through."""

    def take(self, wanted: bool) -> Row | None:
        """Passes the next row, and returns it if it is wanted; what is not may cost less.

        Raises:
            StopIteration: after the last row.
        """
        ...

    def get_state(self) -> dict[str, Any]:
        """Returns small JSON: where to go on."""
        ...

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`."""
        ...

    def figures(self, state: Mapping[str, Any]) -> dict[str, float]:
        """Returns what a state says in figures, for the metrics of a run."""
        ...


@runtime_checkable
class HasRowStream(Protocol):
    """An input that can be a part of a mixture."""

    @property
    def pad_id(self) -> int:
        """The id that fills rows."""
        ...

    def row_stream(self) -> RowStream:
        """Returns a stream that begins with the first row."""
        ...


class RowStreamInput(Input, abc.ABC):
    """An input whose rows can only be had one after another, so that each process makes them all.

    When the stream ends, the last batch is filled up with rows of weight 0.
    """

    @property
    @abc.abstractmethod
    def seq_len(self) -> int:
        """Targets per row."""

    @property
    @abc.abstractmethod
    def pad_id(self) -> int:
        """The id that fills rows."""

    @abc.abstractmethod
    def row_stream(self) -> RowStream:
        """Returns a stream that begins with the first row."""

    def batches(self, *, process_index: int = 0, process_count: int = 1) -> BatchIterator:
        return _Batches(self, self.local_rows(process_index, process_count))

    def batch_shape(self) -> BatchShape:
        return batch_shape(self.config.batch_size, self.seq_len)

    def figures(self, state: Mapping[str, Any]) -> dict[str, float]:
        return self._stream_for_figures.figures(state)

    @cached_property
    def _stream_for_figures(self) -> RowStream:
        return self.row_stream()


class PlacedRows:
    """A stream of rows that are functions of their place. Its state is `{"row": rows so far}`.

    Args:
        row: returns the row at a place.
        count: of rows; None: without end.
        per_pass: rows after which they begin again; None: they never do.
    """

    def __init__(self, row: Callable[[int], Row], count: int | None, per_pass: int | None = None):
        self._row_at, self._count, self._per_pass = row, count, per_pass
        self._row = 0

    def take(self, wanted: bool) -> Row | None:
        if self._count is not None and self._row >= self._count:
            raise StopIteration
        row = self._row_at(self._row) if wanted else None
        self._row += 1
        return row

    def get_state(self) -> dict[str, Any]:
        return {"row": self._row}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._row = int(state["row"])

    def figures(self, state: Mapping[str, Any]) -> dict[str, float]:
        return {"epoch": state["row"] / self._per_pass} if self._per_pass else {}


class _Batches:
    """Cuts this process's rows of each batch out of a stream; the state is the stream's."""

    def __init__(self, source: RowStreamInput, rows: range):
        self._source, self._rows = source, rows
        self._stream = source.row_stream()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        source = self._source
        batch = empty_batch(len(self._rows), source.seq_len, source.pad_id)
        for number in range(source.config.batch_size):
            wanted = number in self._rows
            try:
                row = self._stream.take(wanted)
            except StopIteration:
                if number == 0:
                    raise
                break
            if wanted:
                assert row is not None
                fill_row(batch, number - self._rows.start, row)
        return batch

    def get_state(self) -> dict[str, Any]:
        return self._stream.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._stream.set_state(state)
