"""Documents in Parquet files, by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from axlearn_inputs.sources.extra import import_extra
from axlearn_inputs.sources.files import FileSource
from axlearn_inputs.sources.source import DocumentError, Found, Position

_ROWS_AT_ONCE = 256


class Parquet(FileSource):
    """A document per row, in one of the columns; only that column is read.

    A position in a file is `{"record": rows so far}`. Going on from it skips whole row groups.
    """

    class Config(FileSource.Config):
        column: str = "text"

    def read_file(self, path: Path, after: Position) -> Iterator[Found]:
        arrow = import_extra("pyarrow", "parquet", "Parquet files")
        parquet = import_extra("pyarrow.parquet", "parquet", "Parquet files")
        done, column = after.get("record", 0), self.config.column
        try:
            with parquet.ParquetFile(path) as file:
                self._check_column(path, file.schema_arrow.names)
                groups, number = _groups_behind(file.metadata, done)
                batches = file.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=[column])
                for batch in batches:
                    rows = batch.column(0)[max(done - number, 0) :].to_pylist()
                    number += len(batch) - len(rows)
                    for text in rows:
                        number += 1
                        if not isinstance(text, str):
                            raise DocumentError(
                                f"{path} record {number}: column {column!r} holds no text but "
                                f"{text!r:.40}",
                                {"record": number},
                            )
                        yield Found(text, {"record": number})
        except arrow.ArrowException as error:
            raise DocumentError(f"{path} cannot be read as Parquet: {error}") from error

    def _check_column(self, path: Path, names: Sequence[str]) -> None:
        if self.config.column not in names:
            raise DocumentError(
                f"{path} has no column {self.config.column!r}, which column= of the source "
                f"chooses; the columns are {', '.join(map(repr, names))}"
            )


def _groups_behind(metadata: Any, done: int) -> tuple[list[int], int]:
    """Returns the row groups with rows behind `done`, and how many rows are before them."""
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    before = first = 0
    while first < len(sizes) and before + sizes[first] <= done:
        before += sizes[first]
        first += 1
    return list(range(first, len(sizes))), before
