"""Where the arrays of a train state lie: bytes on one device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import jax

from axlearn_core.plan.record import PlacedArray


def placed_arrays(tree: Any) -> Iterator[PlacedArray]:
    """Yields the arrays of a tree of `jax.ShapeDtypeStruct`s with a NamedSharding each."""
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = ".".join(_name(key) for key in keys)
        shape = tuple(leaf.shape)
        sizes = leaf.sharding.mesh.shape
        spec = f"({', '.join(_axes(axes, sizes) for axes in leaf.sharding.spec)})"
        size = prod(leaf.sharding.shard_shape(shape)) * leaf.dtype.itemsize
        yield PlacedArray(path, shape, str(leaf.dtype), spec, size)


def bytes_per_device(tree: Any) -> int:
    """Returns the bytes of such a tree in the main memory of one device."""
    on_device = [leaf for leaf in jax.tree.leaves(tree) if leaf.sharding.memory_kind in _MAIN]
    return sum(array.bytes_per_device for array in placed_arrays(on_device))


def largest(tree: Any, count: int = 10) -> tuple[PlacedArray, ...]:
    """Returns the arrays that take the most bytes of a device, the largest first."""
    ordered = sorted(placed_arrays(tree), key=lambda array: -array.bytes_per_device)
    return tuple(ordered[:count])


_MAIN = (None, "device")  # the others are the host's


def _name(key: Any) -> str:
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _axes(axes: str | tuple[str, ...] | None, sizes: Mapping[str, int]) -> str:
    names = (axes,) if isinstance(axes, str) else axes or ()
    return " x ".join(name for name in names if sizes[name] > 1) or "-"
