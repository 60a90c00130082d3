"""From vectors to queries, keys and values."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from axlearn_core.config import REQUIRED
from axlearn_core.module import Layer
from axlearn_layers.linear import Linear, Projection


class QKV(NamedTuple):
    """Query head h uses the key and value head h // (num_heads / num_kv_heads)."""

    query: jax.Array  # [batch, seq, num_heads, head_dim]
    key: jax.Array | None  # [batch, seq, num_kv_heads, head_dim]; None where another layer's serve
    value: jax.Array | None  # the same


class QKVProjection(Layer):
    """Makes queries, keys and values. Wrappers add to it what attention need not know of, such as
    rotary positions."""

    class Config(Layer.Config):
        # All set by the attention.
        input_dim: int = REQUIRED
        num_heads: int = REQUIRED
        num_kv_heads: int = REQUIRED
        head_dim: int = REQUIRED

    makes_keys: bool = True  # whether there are keys and values, or only queries

    def forward(self, x: jax.Array, positions: jax.Array | None) -> QKV:
        """Projects x.

        Args:
            x: [batch, seq, input_dim].
            positions: [batch, seq] int, of each token in its document; None is 0, 1, 2, ...
        """
        raise NotImplementedError(type(self))

    def _add_heads(self, name: str, cfg: Projection.Config, heads: int, axis: str) -> Projection:
        """Adds a projection to a number of heads."""
        projection: Projection = self.add_child(
            name,
            cfg.set(
                input_dim=self.config.input_dim,
                output_dim=(heads, self.config.head_dim),
                input_axes="embed",
                output_axes=(axis, "head_dim"),
            ),
        )
        return projection


class FusedQKV(QKVProjection):
    """All three in one matrix product, for grouped queries (arXiv:2305.13245).

    The weight is [embed, kv_heads, group + 2, head_dim]: for each key and value head its group of
    query heads, then the key, then the value. So tensor parallelism over kv_heads keeps every
    group on one device, and no activation moves.
    """

    class Config(QKVProjection.Config):
        projection: Projection.Config = Linear.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        heads = cfg.num_heads // cfg.num_kv_heads + 2
        self.projection: Projection = self.add_child(
            "projection",
            cfg.projection.set(
                input_dim=cfg.input_dim,
                output_dim=(cfg.num_kv_heads, heads, cfg.head_dim),
                input_axes="embed",
                output_axes=("kv_heads", None, "head_dim"),
            ),
        )

    def forward(self, x: jax.Array, positions: jax.Array | None) -> QKV:
        cfg = self.config
        fused = self.projection.forward(x)  # [batch, seq, kv_heads, group + 2, head_dim]
        query = fused[..., :-2, :].reshape(*x.shape[:-1], cfg.num_heads, cfg.head_dim)
        return QKV(query, key=fused[..., -2, :], value=fused[..., -1, :])


class SeparateQKV(QKVProjection):
    """Each by a projection of its own, so that one may have a bias or an adapter and others not.

    Weights are [embed, heads, head_dim] and [embed, kv_heads, head_dim].
    """

    class Config(QKVProjection.Config):
        query: Projection.Config = Linear.default_config()
        key: Projection.Config = Linear.default_config()
        value: Projection.Config = Linear.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.query = self._add_heads("query", cfg.query, cfg.num_heads, "heads")
        self.key = self._add_heads("key", cfg.key, cfg.num_kv_heads, "kv_heads")
        self.value = self._add_heads("value", cfg.value, cfg.num_kv_heads, "kv_heads")

    def forward(self, x: jax.Array, positions: jax.Array | None) -> QKV:
        return QKV(self.query.forward(x), self.key.forward(x), self.value.forward(x))


class QueryOnly(QKVProjection):
    """Queries without keys and values, for layers that attend to another layer's.

    See `SharedKeys`. The weight is [embed, heads, head_dim].
    """

    class Config(QKVProjection.Config):
        projection: Projection.Config = Linear.default_config()

    makes_keys = False

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.projection = self._add_heads("projection", cfg.projection, cfg.num_heads, "heads")

    def forward(self, x: jax.Array, positions: jax.Array | None) -> QKV:
        return QKV(self.projection.forward(x), None, None)


class QKVWrapper(QKVProjection):
    """Adds something to any other projection, also to a wrapped one."""

    class Config(QKVProjection.Config):
        inner: QKVProjection.Config = FusedQKV.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.inner: QKVProjection = self.add_child(
            "inner",
            cfg.inner.set(
                input_dim=cfg.input_dim,
                num_heads=cfg.num_heads,
                num_kv_heads=cfg.num_kv_heads,
                head_dim=cfg.head_dim,
            ),
        )
        self.makes_keys = self.inner.makes_keys
