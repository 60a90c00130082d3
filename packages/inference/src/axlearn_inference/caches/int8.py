"""A cache of eight bits per number."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_layers import ContiguousCache, KVCache
from axlearn_layers.cache import KeysAndValues


class Int8Cache(KVCache):
    """Any cache, holding integers and one scale per token and head.

      s = max_i |x_i| / 127,  n_i = round(x_i / s),  and what is read is s n_i

    Rounding is off by half a step at most: |x_i - s n_i| <= s / 2 = max_i |x_i| / 254. A score
    q . k is then off by at most d = scale * |q|_1 * max_i |k_i| / 254, a weight of the softmax by a
    factor between e^(-2d) and e^(2d), and what is read by (e^(2d) - 1) max|v| + max|v| / 254.

    A token takes head_dim + 4 bytes per head for its key, and as much for its value. The dtype of
    `init` is not that of the numbers, which are int8, nor of the scales, which are float32; read
    are keys and values of the dtype of those that were written last.
    """

    class Config(KVCache.Config):
        inner: KVCache.Config = ContiguousCache.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        heads = {"num_kv_heads": cfg.num_kv_heads, "window": cfg.window}
        value_dim = cfg.head_dim if cfg.value_dim is None else cfg.value_dim
        self.numbers: KVCache = self.add_child(
            "numbers", cfg.inner.clone(**heads, head_dim=cfg.head_dim, value_dim=value_dim)
        )
        # The same slots once more, with one number in each.
        self.scales: KVCache = self.add_child(
            "scales", cfg.inner.clone(**heads, head_dim=1, value_dim=min(value_dim, 1))
        )

    @no_context
    def init(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return {
            "numbers": self.numbers.init(batch_size, max_length, "int8"),
            "scales": self.scales.init(batch_size, max_length, "float32"),
        }

    def update(
        self, state: Tree, key: jax.Array, value: jax.Array, positions: jax.Array
    ) -> tuple[Tree, KeysAndValues]:
        keys, key_scales = quantise(key)
        values, value_scales = quantise(value)
        numbers, read = self.numbers.update(state["numbers"], keys, values, positions)
        scales, steps = self.scales.update(state["scales"], key_scales, value_scales, positions)
        return {"numbers": numbers, "scales": scales}, KeysAndValues(
            (read.key * steps.key).astype(key.dtype),
            (read.value * steps.value).astype(value.dtype),
            read.positions,
        )


def quantise(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns n, [..., dim] int8, and s, [..., 1] float32, so that s n is nearly x; see above.

    Vectors of no numbers have no scale either: [..., 0].
    """
    if not x.shape[-1]:
        return x.astype(jnp.int8), x.astype(jnp.float32)
    x = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(x), axis=-1, keepdims=True) / 127
    scale = jnp.where(scale > 0, scale, 1)
    return jnp.round(x / scale).astype(jnp.int8), scale
