"""A cache in pages, which sequences take as they grow, and may share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_layers.cache import KeysAndValues, KVCache, Pool, empty_slots

PAGE_TABLE = "page_table"
"""The name under which a caller provides [batch, pages] int32: which page of the pool holds the
positions `i * page_size` and so on of each row. A number that no page has stands for none."""


class PagedCache(KVCache):
    """Keys and values of all sequences in one pool of pages (arXiv:2309.06180).

    Position p of row r lies in page `table[r, p // page_size]`, slot `p % page_size`. Several rows
    may name the same page and so share a prefix. What is written where the table names no page is
    dropped, and what is read there stands at positions that no causal mask lets a query see.

    Without a table (`PAGE_TABLE`) each row has pages of its own, and the pool must be as large.
    """

    class Config(KVCache.Config):
        page_size: int = 16  # positions
        num_pages: int | None = None  # of the pool; None: enough for all rows of full length

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        if config.page_size < 1 or (config.num_pages is not None and config.num_pages < 1):
            raise ConfigError(
                f"page_size (={config.page_size}) and num_pages (={config.num_pages}) must be at "
                "least 1"
            )

    @no_context
    def init(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        cfg = self.config
        pages = batch_size * -(-max_length // cfg.page_size)
        shape = (cfg.num_pages or pages, cfg.num_kv_heads, cfg.page_size)
        value_dim = cfg.head_dim if cfg.value_dim is None else cfg.value_dim
        return {
            "key": Pool(empty_slots((*shape, cfg.head_dim), dtype, None)),
            "value": Pool(empty_slots((*shape, value_dim), dtype, None)),
        }

    def update(
        self, state: Tree, key: jax.Array, value: jax.Array, positions: jax.Array
    ) -> tuple[Tree, KeysAndValues]:
        rows, size = key.shape[0], self.config.page_size
        pool = state["key"].array.shape[-4]
        table: jax.Array | None = self.provided(PAGE_TABLE)
        if table is None:
            table = jnp.arange(pool // rows * rows).reshape(rows, -1)
        page = jnp.take_along_axis(table, positions // size, axis=1, mode="fill", fill_value=pool)
        slot = positions % size
        slots = jnp.arange(table.shape[1] * size)

        def written(old: Pool, new: jax.Array) -> Pool:
            at = old.array.at[(*old.layer_like(page), page, slice(None), slot)]
            return Pool(at.set(new.astype(old.array.dtype), mode="drop"), old.layer)

        def read(pool: Pool) -> jax.Array:
            found = pool.array[(*pool.layer_like(table), table)]
            by_head = found.swapaxes(1, 2)  # [rows, heads, pages, size, dim]
            return by_head.reshape(*by_head.shape[:2], slots.size, found.shape[-1]).swapaxes(1, 2)

        state = {"key": written(state["key"], key), "value": written(state["value"], value)}
        return state, KeysAndValues(read(state["key"]), read(state["value"]), slots)
