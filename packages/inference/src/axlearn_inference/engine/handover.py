"""A request that moves from one engine to another, with what the cache holds of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from axlearn_core.errors import UserError
from axlearn_core.module.context import Tree
from axlearn_inference.caches.rows import put_rows, take_rows
from axlearn_inference.engine.paging import CacheAxes, shardings
from axlearn_inference.request import Matcher, Request

_NOWHERE = np.iinfo(np.int32).max  # a page that no pool has


class Handover(NamedTuple):
    """A text under way: one engine reads prompts, another one goes on (arXiv:2401.09670).

    Its arrays are on the devices of the engine that gave it; `jax.device_get` makes host arrays of
    them, which an engine takes as well.
    """

    request: Request
    ids: tuple[int, ...]  # prompt and text
    computed: int  # of how many of them the contents are
    timeout: float | None  # seconds that are left
    matcher: Matcher | None
    contents: Tree  # like a cache, of one row and of this text's pages


class Contents:
    """Takes what a cache holds of a sequence, and puts it there.

    Numbers of pages are filled up to powers of two, so that few programs are compiled.
    """

    def __init__(self, axes: CacheAxes, cache: Tree):
        self._places = shardings(cache)  # those of its rows and its pages too
        self._take = jax.jit(partial(_take, axes), out_shardings=self._places)
        self._put = jax.jit(partial(_put, axes), donate_argnums=0, out_shardings=self._places)

    def take(self, cache: Tree, slot: int, pages: Sequence[int]) -> Tree:
        """Returns a row of what the cache keeps by rows, and pages of what it keeps by pages."""
        contents: Tree = self._take(cache, np.array([slot]), _filled_up(pages, pages[-1]))
        return contents

    def put(self, cache: Tree, slot: int, pages: Sequence[int], contents: Tree) -> Tree:
        """Returns the cache, which is used up, with contents in another row and other pages.

        Raises:
            UserError: if they are of another kind of cache.
        """
        row, filled = np.array([slot]), _filled_up(pages, _NOWHERE)
        expected = jax.eval_shape(self._take, cache, row, filled)
        if _shapes(expected) != _shapes(contents):
            raise UserError(
                "both engines need the same model, cache and page_size; this one expects "
                f"{_shapes(expected)}, and got {_shapes(contents)}"
            )
        here = jax.device_put(contents, self._places)
        changed: Tree = self._put(cache, row, filled, here)
        return changed


def _take(axes: CacheAxes, cache: Tree, row: jax.Array, pages: jax.Array) -> Tree:
    return take_rows(take_rows(cache, axes.rows, row), axes.pages, pages)


def _put(axes: CacheAxes, cache: Tree, row: jax.Array, pages: jax.Array, contents: Tree) -> Tree:
    # What has no pages is that of the contents, one row, and then is put where it belongs.
    return put_rows(cache, axes.rows, row, put_rows(cache, axes.pages, pages, contents))


def _filled_up(pages: Sequence[int], with_: int) -> NDArray[np.int32]:
    filled = np.full(1 << (len(pages) - 1).bit_length(), with_, np.int32)
    filled[: len(pages)] = pages
    return filled


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
