"""Faults that something deep in a run has met, and has borne: a record that was left out, say."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Final

Listener = Callable[[str, str], None]
_logger = logging.getLogger(__name__)
_listeners: Final[list[Listener]] = []


def tell_fault(kind: str, message: str) -> None:
    """Logs a warning, and tells the events of the run in this process, from any thread.

    Args:
        kind: a word for it, such as `record_skipped`.
        message: a line that says what and where.
    """
    _logger.warning("%s", message)
    for listener in list(_listeners):
        listener(kind, message)


@contextlib.contextmanager
def hearing_faults(listener: Listener) -> Iterator[None]:
    """Within the block `listener(kind, message)` is called for each fault."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
