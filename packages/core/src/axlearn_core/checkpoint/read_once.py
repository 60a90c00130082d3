"""Reads each byte of a checkpoint once, however many replicas of an array there are.

Storage that all processes of a run read from at the same time is slow and billed by the byte; the
network between the devices is neither. So replicas read a share each, and give each other the rest.
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

_SMALL = 1 << 20  # bytes: what is smaller is read faster than it is given on


def spread(like: Any) -> Any:
    """Returns a tree of `jax.ShapeDtypeStruct` whose replicas are split where they can be.

    Args:
        like: the same with the shardings that are wanted in the end.
    """
    return jax.tree.map(_spread, like)


def gathered(state: Any, like: Any) -> Any:
    """Gives each array the sharding that is wanted in the end; bits move and are not added up."""
    return jax.tree.map(_gathered, state, like)


def _spread(like: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = like.sharding
    if math.prod(like.shape) * like.dtype.itemsize < _SMALL:
        return like
    if not isinstance(sharding, NamedSharding) or sharding.memory_kind not in (None, "device"):
        return like
    sizes = sharding.mesh.shape
    axes = [_as_tuple(entry) for entry in sharding.spec]
    axes += [()] * (len(like.shape) - len(axes))
    used = {axis for entry in axes for axis in entry}
    for axis in (name for name, size in sizes.items() if size > 1 and name not in used):
        for dimension, length in enumerate(like.shape):
            ways = math.prod(sizes[name] for name in (*axes[dimension], axis))
            if length % ways == 0:
                axes[dimension] = (*axes[dimension], axis)
                break
    split = NamedSharding(sharding.mesh, PartitionSpec(*axes))
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=split)


def _gathered(array: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
    if array.sharding.is_equivalent_to(like.sharding, array.ndim):
        return array
    move = jax.jit(lambda x: x, out_shardings=like.sharding)
    moved: jax.Array = move(array)
    return moved


def _as_tuple(entry: Any) -> tuple[str, ...]:
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)
