"""A model whose caches lie in pages."""

from __future__ import annotations

from typing import NamedTuple

import jax

from axlearn_core.config import find, replace
from axlearn_core.module import Module
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


def bytes_per_page(model: LanguageModel, page_size: int) -> int:
    """Returns how much memory a page of all layers takes; 0 if nothing is paged."""

    def size(num_pages: int) -> int:
        module = _with_pages(model, page_size, num_pages)
        leaves = jax.tree.leaves(
            jax.eval_shape(lambda: module.init_cache(1, page_size, model.dtype))
        )
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

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
