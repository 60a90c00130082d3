"""What happened to a run, over all of its sessions: `events.jsonl`.

A line is an object with `time` (Unix seconds), `event` (its kind), and what `Clock` adds. Lines are
only ever added, so a kill costs at most the line that it cut short.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"
_OF_EACH = {"time", "event", "session", "step", "seconds"}
_logger = logging.getLogger(__name__)


def read_events(run: Path) -> list[dict[str, Any]]:
    """Returns the events of a run's directory, oldest first; lines that a kill cut short are not.

    A run of a version that kept none, or that has just been created, has none.
    """
    try:
        lines = (run / EVENTS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [event for line in lines if (event := _parsed(line)) is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.keys() >= _OF_EACH else None


class EventFile:
    """Adds lines to `events.jsonl`. A disk that is full costs events, and never the run."""

    def __init__(self, run: Path):
        self._path = run / EVENTS
        self._failed = False
        self._torn = self._path.exists() and not self._path.read_bytes().endswith(b"\n")

    def add(self, event: dict[str, Any]) -> None:
        start = "\n" if self._torn else ""  # a line that a kill cut short ends here
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(start + json.dumps(event) + "\n")
        except OSError as error:
            if not self._failed:
                _logger.warning("cannot write %s: %s", self._path, error.strerror)
            self._failed = self._torn = True
        else:
            self._failed = self._torn = False
