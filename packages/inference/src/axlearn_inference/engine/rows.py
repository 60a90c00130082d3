"""Rows and pages of a cache, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.module.context import Tree

Axes = Any  # a tree like the cache's, of the axis that counts something; -1 where none does


def axes_of(init: Callable[[int], Tree]) -> Axes:
    """Returns the axis of each leaf that grows with what `init` takes; -1 is none."""

    def growing(small: jax.ShapeDtypeStruct, large: jax.ShapeDtypeStruct) -> int:
        pairs = enumerate(zip(small.shape, large.shape, strict=True))
        return next((axis for axis, (a, b) in pairs if a != b), -1)

    return jax.tree.map(growing, *(jax.eval_shape(lambda n=n: init(n)) for n in (2, 3)))


def take_rows(cache: Tree, axes: Axes, rows: jax.Array) -> Tree:
    """Returns these rows of each leaf that has rows, and the other leaves as they are."""

    def take(leaf: jax.Array, axis: int) -> jax.Array:
        return leaf if axis < 0 else jnp.take(leaf, rows, axis=axis, mode="clip")

    taken: Tree = jax.tree.map(take, cache, axes)
    return taken


def put_rows(cache: Tree, axes: Axes, rows: jax.Array, new: Tree) -> Tree:
    """Returns the cache with new rows, and new leaves where there are none.

    What goes to a row that the cache does not have is dropped.
    """

    def put(leaf: jax.Array, axis: int, new: jax.Array) -> jax.Array:
        if axis < 0:
            return new
        return leaf.at[(slice(None),) * axis + (rows,)].set(new.astype(leaf.dtype), mode="drop")

    changed: Tree = jax.tree.map(put, cache, axes, new)
    return changed
