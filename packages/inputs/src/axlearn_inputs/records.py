"""Rows of prepared data, and what follows where a record of them is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from axlearn_core.observe.faults import tell_fault
from axlearn_inputs.manifest import PREPARE_AGAIN, PreparedDataError
from axlearn_inputs.packers import Row
from axlearn_inputs.rows import decode_row, id_dtype
from axlearn_inputs.shards import ShardReader

Damaged = Literal["stop", "skip"]


class Rows(NamedTuple):
    """Rows in the order asked for; a damaged one is empty.

    Attributes:
        rows: of pieces of ids.
        skipped: how many are damaged.
    """

    rows: list[Row]
    skipped: int


class RecordReader:
    """Reads rows by their number in a split.

    Args:
        shards: the records. With `skip` they are best not checked as a whole.
        vocab_size: ids are below.
        seq_len: targets that fit into a row.
        damaged: `stop` raises; `skip` leaves the row empty and logs which record it was.
    """

    def __init__(self, shards: ShardReader, *, vocab_size: int, seq_len: int, damaged: Damaged):
        self._shards = shards
        self._vocab_size = vocab_size
        self._seq_len = seq_len
        self._damaged = damaged
        self._dtype = id_dtype(vocab_size)

    def read(self, indices: Sequence[int]) -> Rows:
        """Returns the rows at `indices`.

        Raises:
            PreparedDataError: naming file and record.
        """
        rows: list[Row] = []
        skipped = 0
        for index in indices:
            try:
                rows.append(self._row(self._shards.read([index])[0]))
            # RuntimeError is ArrayRecord's word for bytes that are not those that were written.
            except (RuntimeError, ValueError) as error:
                if isinstance(error, PreparedDataError):  # of a whole shard
                    raise
                path, record = self._shards.locate(index)
                what = f"record {record} of {path} is damaged: {error}"
                if self._damaged == "stop":
                    raise PreparedDataError(
                        f"{what}. Restore the file from a copy, or leave such records out with "
                        f"input.damaged=skip. Or: {PREPARE_AGAIN}"
                    ) from error
                tell_fault("record_skipped", f"{what}; its row is left empty")
                rows.append([])
                skipped += 1
        return Rows(rows, skipped)

    def _row(self, record: bytes) -> Row:
        row = decode_row(record, self._dtype)
        targets = sum(len(piece) - 1 for piece in row)
        if targets > self._seq_len:
            raise ValueError(f"it has {targets} targets, and a row has {self._seq_len}")
        if (highest := max(int(piece.max()) for piece in row)) >= self._vocab_size:
            raise ValueError(f"it has the id {highest}, and the vocabulary {self._vocab_size} ids")
        return row
