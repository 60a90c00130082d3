"""Reads a JSON-lines file that another process appends to, each record once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LONGEST = 1 << 20  # bytes of a line; a longer one is damage, and must not fill the memory
_REMEMBERED = 64  # bytes before the place read to; they tell whether the file is still the same


class Tail:
    """A file's records so far, and later those that were added.

    A last line without an end is left for the next time: it is being written, or a kill cut it.

    Attributes:
        damaged: lines that are no JSON object, so far.
        cut: bytes of a last line that has no end.
    """

    def __init__(self, path: Path):
        self.path = path
        self._begin()

    def _begin(self) -> None:
        self._read, self._before = 0, b""
        self.damaged = self.cut = 0

    def restarted(self) -> bool:
        """Whether what was read is gone or was rewritten, as by a run that resumed.

        Then `records` begins anew.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._read - len(self._before))
                same = file.read(len(self._before)) == self._before
        except OSError:
            same = not self._read
        if not same:
            self._begin()
        return not same

    def records(self) -> Iterator[dict[str, Any]]:
        """Yields the objects that were added since the last call. A missing file has none."""
        try:
            file = self.path.open("rb")
        except OSError:
            return
        self.cut = 0
        with file:
            file.seek(self._read)
            while line := file.readline(_LONGEST):
                end = line
                while end and not end.endswith(b"\n"):  # more of a long line, or the file's end
                    end = file.readline(_LONGEST)
                if not end:
                    self.cut = file.tell() - self._read
                    return
                self._read, self._before = file.tell(), end[-_REMEMBERED:]
                record = _parsed(line) if end is line else None
                if record is None:
                    self.damaged += 1
                else:
                    yield record


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
