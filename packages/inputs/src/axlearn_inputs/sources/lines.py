"""Documents in lines: JSONL, and plain text with a document per line."""

from __future__ import annotations

import abc
import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from axlearn_inputs.sources.extra import import_extra
from axlearn_inputs.sources.files import FileSource
from axlearn_inputs.sources.source import DocumentError, Found, Position

_SKIPPED_AT_ONCE = 1 << 20


class LineSource(FileSource):
    """A document per line; files that end in .gz or .zst are decompressed while they are read.

    A position in a file is `{"line": lines so far, "byte": bytes so far}`. Going on from it seeks,
    but in a compressed file decompresses what is before it.
    """

    @abc.abstractmethod
    def parse(self, line: str) -> str | None:
        """Returns the document of a line without its end, or None for a line that holds none.

        Raises:
            ValueError: saying what is wrong with the line.
        """

    def read_file(self, path: Path, after: Position) -> Iterator[Found]:
        number, byte = after.get("line", 0), after.get("byte", 0)
        with _opened(path, byte) as file:
            for line in file:
                number, byte = number + 1, byte + len(line)
                behind = {"line": number, "byte": byte}
                try:
                    text = self.parse(line.decode("utf-8").rstrip("\r\n"))
                except ValueError as error:  # UnicodeDecodeError is one
                    raise DocumentError(f"{path} line {number}: {error}", behind) from error
                if text is not None:
                    yield Found(text, behind)


class JsonLines(LineSource):
    """An object of JSON per line, with the text in one of its fields. Empty lines are skipped."""

    class Config(LineSource.Config):
        field: str = "text"

    def parse(self, line: str) -> str | None:
        if not line.strip():
            return None
        field = self.config.field
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"expected JSON; {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"expected an object of JSON, found a {type(record).__name__}")
        if field not in record:
            raise ValueError(
                f"no field {field!r}, which field= of the source chooses; the fields are "
                f"{', '.join(map(repr, record)) or 'none'}"
            )
        if not isinstance(text := record[field], str):
            raise ValueError(f"field {field!r} is no text but a {type(text).__name__}")
        return text


class TextLines(LineSource):
    """A document per line of plain text. Empty lines are skipped."""

    def parse(self, line: str) -> str | None:
        return line or None


@contextlib.contextmanager
def _opened(path: Path, byte: int) -> Iterator[BinaryIO]:
    """Opens a file behind its first bytes, counted when they are decompressed."""
    try:
        with _open(path) as file:
            if file.seekable():
                file.seek(byte)
            while not file.seekable() and byte:
                byte -= len(file.read(min(byte, _SKIPPED_AT_ONCE)))
            yield file
    except (EOFError, zlib.error) as error:  # of gzip; the others raise an OSError
        raise DocumentError(f"{path} is damaged: {error}") from error


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix == ".zst":
        arrow = import_extra("pyarrow", "parquet", "files that end in .zst")
        return cast(BinaryIO, io.BufferedReader(arrow.input_stream(str(path), compression="zstd")))
    return path.open("rb")
