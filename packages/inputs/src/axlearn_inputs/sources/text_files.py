"""A document per file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from axlearn_inputs.sources.files import FileSource
from axlearn_inputs.sources.source import DocumentError, Found, Position


class TextFiles(FileSource):
    """Each file is one document, to the character."""

    def read_file(self, path: Path, after: Position) -> Iterator[Found]:
        if after:
            return
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DocumentError(f"{path} is not UTF-8: {error}", {"record": 1}) from error
        yield Found(text, {"record": 1})
