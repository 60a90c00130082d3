"""The rows of a cache, whatever it is made of: what belongs to which sequence of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_core.module.context import Tree


class RowAxis(NamedTuple):
    """Where an array holds its rows."""

    axis: int | None  # None: it belongs to no row, such as a pool of pages
    each: int = 1  # entries along the axis that belong to one row, such as pages of its own


RowAxes = Any  # a tree like the cache's, of RowAxis


def row_axes(make_cache: Callable[[int], Tree]) -> RowAxes:
    """Finds out which axis of each array counts the rows, by making caches of two batch sizes.

    Args:
        make_cache: from a batch size to the cache; only its shapes are computed. Give a function
            that fills the cache too where that gives it further arrays, as cross attention does::

                row_axes(lambda rows: model.init_cache(rows, 1024, "float32"))

    Raises:
        ValueError: if the size of an array grows otherwise than row by row.
    """

    def compared(two: jax.ShapeDtypeStruct, three: jax.ShapeDtypeStruct) -> RowAxis:
        pairs = zip(two.shape, three.shape, strict=True)
        grown = [(axis, a, b) for axis, (a, b) in enumerate(pairs) if a != b]
        if not grown:
            return RowAxis(None)
        (axis, a, b), *more = grown
        if more or 3 * a != 2 * b:
            raise ValueError(
                f"an array of the cache is {two.shape} for two rows and {three.shape} for three; "
                "one axis may grow with the batch, in proportion"
            )
        return RowAxis(axis, b - a)

    axes = jax.tree.map(compared, *(jax.eval_shape(lambda n=n: make_cache(n)) for n in (2, 3)))
    return axes


def check_rows_apart(axes: RowAxes) -> None:
    """Raises a ConfigError if an array belongs to no row, so that a row cannot be copied."""
    leaves, _ = jax.tree.flatten_with_path(axes, is_leaf=lambda node: isinstance(node, RowAxis))
    for path, at in leaves:
        if at.axis is None:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ConfigError(
                f"{name} of the cache does not keep rows apart, as a pool of pages does not: "
                "several samples or beams of a prompt need another cache, such as "
                "model.**.cache=contiguous_cache"
            )


def take_rows(cache: Tree, axes: RowAxes, rows: jax.Array) -> Tree:
    """Returns a cache of these rows, [n] int; arrays without rows are as they are.

    A row that the cache does not have is its last one.
    """

    def take(leaf: jax.Array, at: RowAxis) -> jax.Array:
        if at.axis is None:
            return leaf
        last = leaf.shape[at.axis] // at.each - 1
        return jnp.take(leaf, _entries(jnp.minimum(rows, last), at), axis=at.axis)

    taken: Tree = jax.tree.map(take, cache, axes)
    return taken


def put_rows(cache: Tree, axes: RowAxes, rows: jax.Array, part: Tree) -> Tree:
    """Returns the cache with these rows, [n] int, replaced by those of `part`.

    Arrays without rows are those of `part`. What goes to a row that the cache does not have is
    dropped, so a batch may be filled up with rows that belong nowhere.
    """

    def put(leaf: jax.Array, at: RowAxis, new: jax.Array) -> jax.Array:
        if at.axis is None:
            return new
        where = (slice(None),) * at.axis + (_entries(rows, at),)
        return leaf.at[where].set(new.astype(leaf.dtype), mode="drop")

    changed: Tree = jax.tree.map(put, cache, axes, part)
    return changed


def _entries(rows: jax.Array, at: RowAxis) -> jax.Array:
    return (jnp.asarray(rows)[:, None] * at.each + jnp.arange(at.each)).reshape(-1)
