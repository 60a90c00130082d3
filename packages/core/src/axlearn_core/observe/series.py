"""The values of a metric by step, in bounded memory: a curve of a million steps looks the same."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

_MOST = 4096  # points kept; far more than a screen has columns


class Series:
    """Steps and values in the order of the steps.

    Beyond a number of points, equal intervals of steps keep only their lowest and highest value,
    the first that is not finite, and the newest of all: what a drawing shows is still there.
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
        if len(self.steps) > self._most:  # half of them go, so that most additions need no work
            self._interval, kept = self._thinned(self._most // 2)
            self.steps = array("q", np.array(self.steps)[kept].tobytes())
            self.values = array("d", np.array(self.values)[kept].tobytes())

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.values[-1] if self.values else None

    def points(self, most: int) -> list[tuple[int, float]]:
        """Returns at most this many points (at least 8), or all."""
        points = list(zip(self.steps, self.values, strict=True))
        if len(points) <= most:
            return points
        return [points[i] for i in self._thinned(most)[1]]

    def _thinned(self, most: int) -> tuple[int, NDArray[np.intp]]:
        """Returns the shortest interval, in doublings, that keeps so few points, and which."""
        interval, steps, values = self._interval, np.array(self.steps), np.array(self.values)
        while len(kept := _kept(steps // interval, values)) > max(most, 8):
            interval *= 2
        return interval, kept


def _kept(group: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Returns the places of each group's lowest, highest and first not finite value, and the last.

    Of equal values the earliest is the lowest, and the latest the highest.
    """
    finite = np.isfinite(values)
    places = np.flatnonzero(finite)
    places = places[np.lexsort((values[places], group[places]))]
    others = np.flatnonzero(~finite)
    chosen = (places[_first(group[places])], places[_last(group[places])])
    return np.unique(np.concatenate([*chosen, others[_first(group[others])], [len(values) - 1]]))


def _first(group: NDArray[np.int64]) -> NDArray[np.intp]:
    """Returns where each group starts, of groups in order."""
    return np.flatnonzero(np.diff(group, prepend=-1))


def _last(group: NDArray[np.int64]) -> NDArray[np.intp]:
    """Returns where each group ends."""
    return np.flatnonzero(np.diff(group, append=-1))
