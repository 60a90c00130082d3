"""A request that moves from one engine to another, with what the cache holds of it."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.errors import UserError
from axlearn_core.module.context import Tree
from axlearn_inference.engine.paging import CacheAxes
from axlearn_inference.request import Matcher, Request


class Handover(NamedTuple):
    """A text under way: one engine reads prompts, another one goes on (arXiv:2401.09670).

    Its arrays are the sending engine's; `jax.device_get` makes host arrays of them, which an
    engine adopts as well.
    """

    request: Request
    ids: tuple[int, ...]  # prompt and text
    computed: int  # of how many of them the contents are
    timeout: float | None  # seconds that are left
    matcher: Matcher | None
    contents: Tree  # like the cache, of one row and of this text's pages


def take_contents(cache: Tree, axes: CacheAxes, slot: int, pages: list[int]) -> Tree:
    """Returns a row of what the cache keeps by rows, and pages of what it keeps by pages.

    Their number is filled up to a power of two, so that few programs are compiled.
    """

    def take(leaf: jax.Array, row: int, page: int) -> jax.Array:
        if page < 0:
            return jnp.take(leaf, jnp.array([slot]), axis=row)
        size = 1 << (len(pages) - 1).bit_length()
        where = np.resize(pages, size)  # begins anew at the end
        return jnp.take(leaf, where, axis=page)

    contents: Tree = jax.tree.map(take, cache, axes.rows, axes.pages)
    return contents


def put_contents(cache: Tree, axes: CacheAxes, slot: int, pages: list[int], contents: Tree) -> Tree:
    """Returns the cache with contents in another row and in other pages.

    Raises:
        UserError: if they are of another kind of cache.
    """

    def put(leaf: jax.Array, row: int, page: int, new: Any) -> jax.Array:
        axis = max(row, page)
        if new.shape[:axis] + new.shape[axis + 1 :] != leaf.shape[:axis] + leaf.shape[axis + 1 :]:
            raise UserError(
                f"contents of shape {new.shape} do not fit a cache of shape {leaf.shape}: both "
                "engines need the same model, cache and page_size"
            )
        where = np.full(new.shape[axis], leaf.shape[axis])  # nowhere
        used = [slot] if page < 0 else pages
        where[: len(used)] = used
        return _put(leaf, where, jnp.asarray(new), axis)

    if jax.tree.structure(contents) != jax.tree.structure(cache):
        raise UserError("both engines need the same model and cache, and these differ")
    changed: Tree = jax.tree.map(put, cache, axes.rows, axes.pages, contents)
    return changed


@partial(jax.jit, static_argnums=3, donate_argnums=0)
def _put(leaf: jax.Array, where: jax.Array, new: jax.Array, axis: int) -> jax.Array:
    at = (slice(None),) * axis + (where,)
    return leaf.at[at].set(new.astype(leaf.dtype), mode="drop")
