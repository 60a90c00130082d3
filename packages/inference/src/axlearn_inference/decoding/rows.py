"""Rows of a cache, whatever kind of cache it is: copied for samples, put in order for beams."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_core.module.context import Tree
from axlearn_inference.model import Generating


class _Rows(NamedTuple):
    """Where an array of a cache keeps the rows of the batch."""

    axis: int
    size: int  # along it, of a row


def take_rows(
    module: Generating, cache: Tree, rows: jax.Array, *, max_length: int, dtype: str
) -> Tree:
    """Returns the cache of a batch whose row i is row `rows[i]` of what is in `cache`.

    Args:
        module: whose cache it is.
        cache: as `init_cache` with this `max_length` and dtype made it.
        rows: [any] int.

    Raises:
        ConfigError: for a cache that does not keep its rows apart, such as one in a shared pool.
    """

    def shapes(batch_size: int) -> Tree:
        found: Tree = jax.eval_shape(lambda: module.init_cache(batch_size, max_length, dtype))
        return found

    def taken(
        path: tuple[object, ...],
        x: jax.Array,
        one: jax.ShapeDtypeStruct,
        two: jax.ShapeDtypeStruct,
    ) -> jax.Array:
        where = _rows(jax.tree_util.keystr(path, simple=True, separator="."), one, two)
        before, after = x.shape[: where.axis], x.shape[where.axis + 1 :]
        apart = x.reshape(*before, -1, where.size, *after)
        chosen = jnp.take(apart, rows, axis=where.axis)
        return jnp.reshape(chosen, (*before, -1, *after))

    copied: Tree = jax.tree_util.tree_map_with_path(taken, cache, shapes(1), shapes(2))
    return copied


def _rows(name: str, one: jax.ShapeDtypeStruct, two: jax.ShapeDtypeStruct) -> _Rows:
    grown = [axis for axis, size in enumerate(one.shape) if two.shape[axis] == 2 * size]
    if len(grown) != 1 or one.shape[: grown[0]] != two.shape[: grown[0]]:
        raise ConfigError(
            f"{name} of the cache does not keep rows apart, {one.shape} for one and {two.shape} "
            "for two: several samples or beams of a prompt need another cache, such as "
            "model.**.cache=contiguous_cache"
        )
    return _Rows(grown[0], one.shape[grown[0]])
