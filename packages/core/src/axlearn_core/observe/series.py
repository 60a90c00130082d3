"""The values of a metric by step, in bounded memory: a curve of a million steps looks the same."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence

_MOST = 4096  # points kept; far more than a screen has columns


class Series:
    """Steps and values in the order of the steps.

    Beyond a number of points, equal intervals of steps keep only their lowest and highest value,
    one that is not finite, and the newest of all: what a drawing shows is still there.
    """

    def __init__(self, most: int = _MOST):
        self.steps = array("q")
        self.values = array("d")
        self._most = most
        self._interval = 1

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: int, value: float) -> None:
        """Adds a point. It replaces those of its step and of later ones: a run made them again."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()
        self.steps.append(step)
        self.values.append(value)
        while len(self) > self._most:
            self._interval *= 2
            kept = _kept(self.steps, self.values, self._interval)
            if len(kept) <= self._most // 2:  # so that most additions need no work
                self.steps = array("q", (self.steps[i] for i in kept))
                self.values = array("d", (self.values[i] for i in kept))

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.values[-1] if self.values else None

    def points(self, most: int) -> list[tuple[int, float]]:
        """Returns at most this many points (at least 8), or all."""
        interval, kept = self._interval, list(range(len(self)))
        while len(kept) > max(most, 8):
            interval *= 2
            kept = _kept(self.steps, self.values, interval)
        return [(self.steps[i], self.values[i]) for i in kept]


def _kept(steps: Sequence[int], values: Sequence[float], interval: int) -> list[int]:
    """Returns which points to keep, at most four of each interval and the last."""
    kept: list[int] = []
    for first, end in _intervals(steps, interval):
        finite = [i for i in range(first, end) if math.isfinite(values[i])]
        chosen = {end - 1} if end == len(steps) else set()
        if finite:
            chosen |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
        if len(finite) < end - first:
            chosen.add(next(i for i in range(first, end) if not math.isfinite(values[i])))
        kept.extend(sorted(chosen))
    return kept


def _intervals(steps: Sequence[int], interval: int) -> Iterator[tuple[int, int]]:
    """Yields the first index and the end of the points in each interval that has some."""
    first = 0
    for i in range(1, len(steps) + 1):
        if i == len(steps) or steps[i] // interval != steps[first] // interval:
            yield first, i
            first = i
