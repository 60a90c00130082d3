"""Curves over steps in braille characters: eight dots in the place of one letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = Sequence[tuple[int, float]]

_BRAILLE = 0x2800
# The bit of the dot at each row and column of a character (Unicode, block "Braille Patterns").
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


class Picture(NamedTuple):
    """Curves drawn in one frame.

    Attributes:
        rows: the highest first; of each character, which curve it belongs to (-1: none).
        low: the lowest value in the frame; `high` likewise.
        first: the step at the left border; `last` at the right.
    """

    rows: list[tuple[str, list[int]]]
    low: float
    high: float
    first: int
    last: int


def draw(
    curves: Sequence[Points], width: int, height: int, *, floor: float | None = None
) -> Picture | None:
    """Draws curves over their common range of steps and values, a later one before the others.

    Values that are not finite are left out.

    Args:
        curves: of each the points in the order of their steps.
        width: characters of a row.
        height: rows.
        floor: a value that the frame reaches down to.

    Returns:
        None if there is nothing to draw.
    """
    arrays = [_finite(points) for points in curves]
    filled = [points for points in arrays if len(points)]
    if not filled:
        return None
    together = np.concatenate(filled)
    (first, low), (last, high) = together.min(0), together.max(0)
    low = low if floor is None else min(low, floor)
    spread = (high - low) or abs(high) or 1.0
    dots = np.zeros((4 * height, 2 * width), bool)
    owner = np.full((height, width), -1)
    picture = np.zeros((height, width), int)
    for index, points in enumerate(arrays):
        if len(points):
            dots[:] = False
            x = (points[:, 0] - first) / max(last - first, 1) * (2 * width - 1)
            y = (high - points[:, 1]) / spread * (4 * height - 1)
            _trace(dots, x, y)
            blocks = dots.reshape(height, 4, width, 2)
            picture |= np.einsum("hiwj,ij->hw", blocks, _DOTS)
            owner[blocks.any((1, 3))] = index
    rows = ["".join(chr(_BRAILLE + dots) if dots else " " for dots in row) for row in picture]
    owners = [[int(curve) for curve in row] for row in owner]
    return Picture(
        list(zip(rows, owners, strict=True)), float(low), float(high), int(first), int(last)
    )


def _finite(points: Points) -> NDArray[np.float64]:
    array = np.asarray(points, np.float64).reshape(-1, 2)
    return array[np.isfinite(array[:, 1])]


def _trace(dots: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Sets the dots that a line through the points touches, column by column."""
    column = np.round(x).astype(int)
    columns = np.arange(column[0], column[-1] + 1)
    line = np.interp(columns, x, y)
    # The line comes halfway from the columns beside, and passes all the points in this one.
    before, after = np.append(line[:1], line[:-1]), np.append(line[1:], line[-1:])
    top = np.minimum.reduce([line, (line + before) / 2, (line + after) / 2])
    bottom = np.maximum.reduce([line, (line + before) / 2, (line + after) / 2])
    np.minimum.at(top, column - column[0], y)
    np.maximum.at(bottom, column - column[0], y)
    middle = np.round(line)
    top = np.minimum(middle, np.floor(top - 0.5) + 1)  # dots that are touched, not only at an edge
    bottom = np.maximum(middle, np.ceil(bottom + 0.5) - 1)
    for place, highest, lowest in zip(columns, top, bottom, strict=True):
        dots[int(highest) : int(lowest) + 1, place] = True
