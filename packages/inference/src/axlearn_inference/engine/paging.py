"""A model whose caches lie in pages."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax

from axlearn_core.config import find, replace
from axlearn_core.module import Module
from axlearn_core.module.context import Tree
from axlearn_core.parallel import Placement, placing
from axlearn_inference.caches import PagedCache
from axlearn_inference.caches.rows import RowAxes, RowAxis, row_axes
from axlearn_inference.model import Generating, LanguageModel
from axlearn_layers import ContiguousCache


class CacheAxes(NamedTuple):
    """Where each array of a cache has its rows and its pages."""

    rows: RowAxes
    pages: RowAxes

    @property
    def keeps_rows(self) -> bool:
        """Whether a sequence is more than its pages and its length, as a recurrent state is."""
        own = {name: axes for name, axes in self.rows.items() if name != "length"}
        leaves = jax.tree.leaves(own, is_leaf=lambda node: isinstance(node, RowAxis))
        return any(leaf.axis is not None for leaf in leaves)


def paged(model: LanguageModel, page_size: int, num_pages: int) -> tuple[Generating, CacheAxes]:
    """Returns the module with one pool of pages instead of caches as long as the longest text.

    It takes the same parameters. What wraps a contiguous cache, such as one of fewer bits, then
    wraps a paged one.
    """
    module = _with_pages(model, page_size, num_pages)
    return module, CacheAxes(
        row_axes(lambda rows: module.init_cache(rows, page_size, model.dtype)),
        row_axes(lambda n: _with_pages(model, page_size, n).init_cache(1, page_size, model.dtype)),
    )


def empty_cache(module: Generating, model: LanguageModel, slots: int, max_length: int) -> Tree:
    """Returns a cache of no texts, split over devices by heads.

    Each device has all slots, since texts come and go one by one.
    """
    if model.placement is None:
        return module.init_cache(slots, max_length, model.dtype)
    mesh, rules = model.placement.mesh, model.placement.rules
    everywhere = model.placement.sharding()

    def empty() -> tuple[Tree, int]:
        with placing(Placement(mesh, {**rules, "batch": None})):
            return module.init_cache(slots, max_length, model.dtype), 0

    # The number brings the mesh, where no array of the cache says how it is split.
    made: tuple[Tree, int] = jax.jit(empty, out_shardings=(None, everywhere))()
    return made[0]


def shardings(cache: Tree) -> Tree:
    """Returns where each array lies."""
    places: Tree = jax.tree.map(lambda leaf: leaf.sharding, cache)
    return places


def bytes_per_page(model: LanguageModel, page_size: int) -> int:
    """Returns how much memory a page of all layers takes on a device; 0 if nothing is paged."""

    def size(num_pages: int) -> int:
        module = _with_pages(model, page_size, num_pages)
        leaves = jax.tree.leaves(empty_cache(module, model, 1, page_size))
        shapes = [leaf.sharding.shard_shape(leaf.shape) for leaf in leaves]
        pairs = zip(shapes, leaves, strict=True)
        return sum(math.prod(shape) * leaf.dtype.itemsize for shape, leaf in pairs)

    return size(2) - size(1)


def _with_pages(model: LanguageModel, page_size: int, num_pages: int) -> Generating:
    assert isinstance(model.module, Module)
    cfg = model.module.config.clone()
    paged = PagedCache.default_config().set(page_size=page_size, num_pages=num_pages)
    for kind in (ContiguousCache, PagedCache):
        if find(cfg, kind):
            replace(cfg, kind, paged)
    module: Generating = cfg.instantiate()
    return module
