"""What one sees while a run goes on: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

_REDRAW_SECONDS = 0.1  # a terminal that is drawn more often only flickers


class Progress:
    """Prints messages and the line of the current step.

    On a terminal the line is redrawn in place at every step; elsewhere only the steps that are
    logged print a line.
    """

    def __init__(self, max_step: int, stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._max_step = max_step
        self._drawn = False
        self._last_draw = 0.0

    def say(self, message: str = "") -> None:
        """Prints a line that stays."""
        self._clear()
        self._stream.write(message + "\n")
        self._stream.flush()

    def step(self, step: int, values: Mapping[str, str], *, logged: bool) -> None:
        """Shows a step's values, given as text by name."""
        line = f"step {step:>{len(str(self._max_step))}}/{self._max_step}  " + "  ".join(
            f"{name} {text}" for name, text in values.items()
        )
        if logged:
            self.say(line)
        elif self._live and time.monotonic() - self._last_draw > _REDRAW_SECONDS:
            self._clear()
            self._stream.write(line)
            self._stream.flush()
            self._drawn, self._last_draw = True, time.monotonic()

    def _clear(self) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._drawn = False


class Silence(Progress):
    """Prints nothing: for the processes of a run that leave it to the first."""

    def __init__(self) -> None:
        super().__init__(0)

    def say(self, message: str = "") -> None:
        pass

    def step(self, step: int, values: Mapping[str, str], *, logged: bool) -> None:
        pass


def count(value: float) -> str:
    """Writes a large number briefly: 1.2M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{_brief(value / size)}{unit}"
    return _brief(value)


def size(bytes_: float) -> str:
    """Writes a number of bytes briefly: 1.2 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if abs(bytes_) < 1024:
            return f"{_brief(bytes_)} {unit}"
        bytes_ /= 1024
    return f"{_brief(bytes_)} GiB"


def _brief(value: float) -> str:
    """Writes three significant digits, and large numbers without an exponent."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """Writes a time as 45s, 3:05 or 2:10:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
