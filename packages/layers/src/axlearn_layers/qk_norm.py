"""Norms of queries and keys."""

from __future__ import annotations

from typing import Any

import jax

from axlearn_layers.norms import Norm, RMSNorm
from axlearn_layers.qkv import QKV, QKVWrapper


class QKNorm(QKVWrapper):
    """Norms queries and keys, each with parameters of its own, which bounds the scores.

    Per head by default (ViT-22B, arXiv:2302.05442; Qwen3, Gemma 3), all heads with one gain of
    [head_dim]. Around `FusedQKV` and inside `Rotary`, as these models have it:
    `Rotary(inner=QKNorm(...))`. The other way round is possible too.
    """

    class Config(QKVWrapper.Config):
        norm: Norm.Config = RMSNorm.default_config()  # of both
        across_heads: bool = False  # one norm over all heads together, as in OLMo 2

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.query_norm: Norm = self.add_child("query_norm", self._norm(cfg.num_heads, "heads"))
        self.key_norm: Norm | None = None
        if self.makes_keys:
            self.key_norm = self.add_child("key_norm", self._norm(cfg.num_kv_heads, "kv_heads"))

    def forward(self, x: jax.Array, positions: jax.Array | None) -> QKV:
        query, key, value = self.inner.forward(x, positions)
        query = self._apply(self.query_norm, query)
        if key is not None and self.key_norm is not None:
            key = self._apply(self.key_norm, key)
        return QKV(query, key, value)

    def _norm(self, heads: int, axis: str) -> Norm.Config:
        cfg = self.config
        if cfg.across_heads:
            return cfg.norm.clone(input_dim=heads * cfg.head_dim, axis=axis)
        return cfg.norm.clone(input_dim=cfg.head_dim, axis="head_dim")

    def _apply(self, norm: Norm, x: jax.Array) -> jax.Array:
        if not self.config.across_heads:
            return norm.forward(x)
        return norm.forward(x.reshape(*x.shape[:-2], -1)).reshape(x.shape)
