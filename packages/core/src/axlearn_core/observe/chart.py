"""Curves in plain characters, for a terminal, a log or a mail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_HEIGHT = 13  # rows; an odd number, so that half of the range has one too
_HEIGHTS = "_-'"  # where in its row a value is: low, in the middle, high
_NARROWEST = 20  # columns


def line_chart(values: Sequence[float] | NDArray[np.floating], width: int) -> str:
    """Draws the values at 0, 1, 2, ... over their index, from 0 (or the lowest) to the highest.

    A column shows the value at one index. What lies between two columns is not seen, but for the
    highest and the lowest value.

    Args:
        values: at least one, all finite.
        width: characters in a line.
    """
    y = np.asarray(values, np.float64)
    low, high = min(0.0, y.min()), max(0.0, y.max())
    if low == high:
        high = 1.0
    labels = {0: f"{high:.3g}", _HEIGHT // 2: f"{(low + high) / 2:.3g}", _HEIGHT - 1: f"{low:.3g}"}
    margin = max(map(len, labels.values()))
    columns = max(width - margin - 2, _NARROWEST)
    last = len(y) - 1
    sampled = np.interp(np.linspace(0, last, columns), np.arange(len(y)), y)
    for extreme in (y.argmin(), y.argmax()):
        sampled[round(extreme / max(last, 1) * (columns - 1))] = y[extreme]
    picture = _drawn((sampled - low) / (high - low))
    rows = [f"{labels.get(i, ''):>{margin}} |{row}".rstrip() for i, row in enumerate(picture)]
    ticks = _ticks(last, columns)
    return "\n".join([*rows, f"{'':>{margin}} +{'-' * columns}", f"{'':>{margin}}  {ticks}"])


def _drawn(heights: NDArray[np.float64]) -> list[str]:
    """Returns rows of characters, the highest first, for heights from 0 to 1."""
    levels = _HEIGHT * len(_HEIGHTS)
    level = np.clip((heights * levels).astype(int), 0, levels - 1)
    row, place = _HEIGHT - 1 - level // len(_HEIGHTS), level % len(_HEIGHTS)
    canvas = np.full((_HEIGHT, len(heights)), " ")
    for column in range(len(heights)):
        before = row[max(column - 1, 0)]
        canvas[min(before, row[column]) + 1 : max(before, row[column]), column] = "|"
        canvas[row[column], column] = _HEIGHTS[place[column]]
    return ["".join(line) for line in canvas]


def _ticks(last: int, columns: int) -> str:
    """Writes the first, the middle and the last index below their columns."""
    line = "0"
    if last > 1:
        line = line.ljust((columns - len(str(last // 2))) // 2) + str(last // 2)
    return line.ljust(columns - len(str(last))) + str(last) if last else line
