"""Data whose rows are made on demand: only what a row holds is left to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axlearn_core.config import REQUIRED
from axlearn_core.training.input import Batch, BatchIterator, BatchShape, Input
from axlearn_inputs.row_stream import PlacedRows
from axlearn_inputs.rows import batch_shape, empty_batch, fill_row


class RowInput(Input):
    """Rows that are functions of the config and of their place in the global order.

    So any number of processes sees the same batches, and the number of batches so far is all there
    is to remember. A subclass defines `rows`, and `describe` too if its config does not tell all.
    """

    class Config(Input.Config):
        seq_len: int = REQUIRED  # tokens per row
        num_batches: int | None = None  # None: without end

    def rows(self, places: range) -> NDArray[np.int32]:
        """Returns the ids at `places` of the global order, [len(places), seq_len + 1].

        All but the last are inputs, all but the first are targets.
        """
        raise NotImplementedError(type(self))

    pad_id = 0  # of the rows that fill up a mixture's last batch; its own rows are full

    def row_stream(self) -> PlacedRows:
        """Returns a stream of the rows, for mixtures."""
        cfg = self.config
        count = None if cfg.num_batches is None else cfg.num_batches * cfg.batch_size
        return PlacedRows(lambda place: [self.rows(range(place, place + 1))[0]], count)

    def batches(self, *, process_index: int = 0, process_count: int = 1) -> BatchIterator:
        return _Batches(self, self.local_rows(process_index, process_count))

    def batch_shape(self) -> BatchShape:
        return batch_shape(self.config.batch_size, self.config.seq_len)

    def describe(self) -> dict[str, Any]:
        return dict(self.config.items())


class _Batches:
    """Counts batches; that is all of its state."""

    def __init__(self, source: RowInput, rows: range):
        self._source, self._rows, self._next = source, rows, 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        cfg = self._source.config
        if cfg.num_batches is not None and self._next >= cfg.num_batches:
            raise StopIteration
        start = self._next * cfg.batch_size
        batch = empty_batch(len(self._rows), cfg.seq_len, self._source.pad_id)
        places = range(start + self._rows.start, start + self._rows.stop)
        for index, ids in enumerate(self._source.rows(places)):
            fill_row(batch, index, [ids])
        self._next += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"next_index": self._next}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._next = int(state["next_index"])
