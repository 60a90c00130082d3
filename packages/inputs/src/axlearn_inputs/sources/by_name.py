"""Which source reads a file, by how its name ends."""

from __future__ import annotations

from axlearn_inputs.sources.files import FileSource
from axlearn_inputs.sources.lines import JsonLines
from axlearn_inputs.sources.parquet import Parquet
from axlearn_inputs.sources.text_files import TextFiles

_BY_END: dict[str, type[FileSource]] = {
    ".jsonl": JsonLines,
    ".jsonl.gz": JsonLines,
    ".jsonl.zst": JsonLines,
    ".parquet": Parquet,
    ".txt": TextFiles,
}

ENDS = tuple(_BY_END)


def source_of_files(pattern: str) -> FileSource.Config | None:
    """Returns a source of the files that a pattern stands for, or None if its end says nothing."""
    for end, source in _BY_END.items():
        if pattern.endswith(end):
            return source.Config(files=(pattern,))
    return None
