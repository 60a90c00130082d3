"""What happened in a session, written so that a kill loses nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class Log:
    """Appends events, a line of JSON each, by one system call each."""

    def __init__(self, path: str):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, "time": time.time(), **facts})
        os.write(self._file, f"{line}\n".encode())


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the events of a session, the oldest first; none if it wrote no log."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
