"""When to save."""

from __future__ import annotations

import time

import jax

from axlearn_core.parallel import from_first

_ASKED_EVERY = 16  # steps: several processes ask the first one's clock, which costs a collective


class Schedule:
    """Steps at a distance, a time that has passed, or both, whichever comes first."""

    def __init__(self, every: int | None, minutes: float | None):
        self._every = every
        self._seconds = None if minutes is None else 60 * minutes
        self._put_off = False
        self.began()

    def began(self) -> None:
        """Counts the time from now on: a save begins."""
        self._last = time.monotonic()
        self._put_off = False

    def put_off(self) -> None:
        """Asks again after the next step."""
        self._put_off = True

    def due(self, step: int) -> bool:
        """Whether to save after this step; the same on every process."""
        at_distance = self._every is not None and step % self._every == 0
        return self._put_off or at_distance or self._is_time(step)

    def _is_time(self, step: int) -> bool:
        if self._seconds is None or (jax.process_count() > 1 and step % _ASKED_EVERY):
            return False
        seconds = self._seconds
        return from_first(lambda: time.monotonic() - self._last >= seconds)
