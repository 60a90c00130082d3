"""Documents in a dataset that Hugging Face `datasets` has saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from axlearn_core.config import REQUIRED
from axlearn_inputs.sources.extra import import_extra
from axlearn_inputs.sources.source import DocumentError, DocumentSource, Found, Position

_ROWS_AT_ONCE = 256


class HuggingFaceDataset(DocumentSource):
    """A document per row of what `save_to_disk` wrote: a DatasetDict, or one Dataset per split.

    A position is `{"record": rows so far}`. Going on from it costs nothing.
    """

    class Config(DocumentSource.Config):
        directory: str = REQUIRED  # {split} stands for the split's name
        column: str = "text"

    def read(self, split: str, after: Position | None = None) -> Iterator[Found]:
        column, rows = self.config.column, self._rows(split)
        for start in range((after or {}).get("record", 0), len(rows), _ROWS_AT_ONCE):
            texts = rows[start : start + _ROWS_AT_ONCE][column]
            for number, text in enumerate(texts, start=start + 1):
                if not isinstance(text, str):
                    raise DocumentError(
                        f"{self.config.directory} record {number} of {split}: column {column!r} "
                        f"holds no text but {text!r:.40}",
                        {"record": number},
                    )
                yield Found(text, {"record": number})

    def describe(self, split: str) -> dict[str, Any]:
        rows = self._rows(split)
        return {"records": len(rows), "bytes": int(rows.data.nbytes)}

    def _rows(self, split: str) -> Any:
        datasets = import_extra("datasets", "datasets", "Hugging Face datasets")
        directory = Path(self.config.directory.replace("{split}", split))
        try:
            found = datasets.load_from_disk(str(directory))
        except (OSError, ValueError) as error:
            raise DocumentError(f"{directory} holds no saved dataset: {error}") from error
        if isinstance(found, datasets.DatasetDict):
            if split not in found:
                raise DocumentError(
                    f"{directory} has no split {split!r}; it has {', '.join(map(repr, found))}"
                )
            found = found[split]
        if self.config.column not in found.column_names:
            raise DocumentError(
                f"{directory} has no column {self.config.column!r}, which column= of the source "
                f"chooses; the columns are {', '.join(map(repr, found.column_names))}"
            )
        return found
