"""Lines that are appended to a file, on a storage that fails now and then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_MOST: Final = 64 << 20  # bytes that wait in memory


class LineFile:
    """Appends lines in their order, and loses none: what cannot be written now waits.

    Lines are kept until the disk has them (fsync): a file system may take them first and say later
    that it had no room, and has forgotten them then.

    Args:
        path: of a file, or of one to be made.

    Raises:
        OSError: if it cannot be opened.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        self._kept = os.fstat(self._file).st_size  # bytes that the disk has
        self._lines = bytearray()  # behind them
        self._written = 0  # bytes of those that the file system has taken

    @property
    def is_full(self) -> bool:
        """Whether no more lines should wait."""
        return len(self._lines) > _MOST

    def add(self, line: str) -> None:
        """Appends a line, which waits if it cannot be written now.

        Raises:
            OSError: if so. Later lines wait behind it.
        """
        self._lines += f"{line}\n".encode()
        if self.is_full:
            self.flush()
        else:
            self._write()

    def flush(self) -> None:
        """Puts all lines on the disk.

        Raises:
            OSError: if that fails; they wait.
        """
        self._write()
        try:
            os.fsync(self._file)
        except OSError:
            self._written = 0
            raise
        self._kept += len(self._lines)
        self._lines.clear()
        self._written = 0

    def close(self) -> None:
        """Ends writing.

        Raises:
            OSError: if lines that waited are lost.
        """
        try:
            self._write()
        finally:
            os.close(self._file)

    def _write(self) -> None:
        while self._written < len(self._lines):
            rest = bytes(self._lines[self._written :])
            self._written += os.pwrite(self._file, rest, self._kept + self._written)
