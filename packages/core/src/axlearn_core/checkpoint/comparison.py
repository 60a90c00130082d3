"""What differs between two checkpoints, without jax."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from axlearn_core.checkpoint.arrays import ArrayInfo, read_array
from axlearn_core.checkpoint.manifest import read_manifest


class ArrayDifference(NamedTuple):
    """How an array differs.

    Attributes:
        problem: "only in the first", another shape, or how many elements have other bits.
        max_abs: the largest difference of elements that are both finite, in float64; else None.
    """

    problem: str
    max_abs: float | None = None

    def __str__(self) -> str:
        return self.problem if self.max_abs is None else f"{self.problem}, by {self.max_abs:.4g}"


class Comparison(NamedTuple):
    """What differs; lines read `name: first -> second`."""

    config: list[str]
    plugins: list[str]
    arrays: dict[str, str]
    equal: int  # arrays with the same bits


def compare(first: Path, second: Path) -> Comparison:
    """Compares two intact checkpoints, one array in memory at a time."""
    facts = [
        json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (first, second)
    ]
    a, b = read_manifest(first).arrays, read_manifest(second).arrays
    found = {name: _array(first, second, a.get(name), b.get(name)) for name in {**a, **b}}
    differing = {name: str(each) for name, each in found.items() if each is not None}
    return Comparison(
        _changes(_config(first), _config(second)),
        _changes(facts[0]["plugins"], facts[1]["plugins"]),
        differing,
        len(found) - len(differing),
    )


def _array(
    first: Path, second: Path, a: ArrayInfo | None, b: ArrayInfo | None
) -> ArrayDifference | None:
    if a is None or b is None:
        return ArrayDifference(f"only in the {'second' if a is None else 'first'}")
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return ArrayDifference(f"{a.dtype}{list(a.shape)} -> {b.dtype}{list(b.shape)}")
    x, y = read_array(first, a), read_array(second, b)
    bits = np.dtype(f"u{x.dtype.itemsize}") if x.dtype.itemsize in (1, 2, 4, 8) else x.dtype
    other = x.view(bits) != y.view(bits)
    count = int(np.count_nonzero(other))
    if not count:
        return None
    wide_x, wide_y = x[other].astype(np.float64), y[other].astype(np.float64)
    finite = np.isfinite(wide_x) & np.isfinite(wide_y)
    most = float(np.abs(wide_x - wide_y)[finite].max()) if finite.any() else None
    return ArrayDifference(f"{count} of {x.size} elements", most)


def _config(folder: Path) -> dict[str, str]:
    lines = (folder / "config.txt").read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {before.get(name, '(default)')} -> {after.get(name, '(default)')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
