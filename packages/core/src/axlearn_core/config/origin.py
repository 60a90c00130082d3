"""Where a value was set: the answer to `axl config where`."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Iterator

DEFAULT = "default"
_PACKAGE = __name__.rpartition(".")[0]
_override: contextvars.ContextVar[str | None] = contextvars.ContextVar("override", default=None)


def current_origin() -> str:
    """Returns the active override, or `file:line` of the nearest caller outside this package."""
    if (override := _override.get()) is not None:
        return override
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def active_setting() -> str | None:
    """Returns what the block around this call sets values as, if it is in one."""
    return _override.get()


@contextlib.contextmanager
def setting_as(origin: str) -> Iterator[None]:
    """Within the block, every value that is set is marked as coming from `origin`."""
    token = _override.set(origin)
    try:
        yield
    finally:
        _override.reset(token)
