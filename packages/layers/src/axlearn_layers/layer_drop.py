"""Layers that are left out at random."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_layers.block import TransformerBlock
from axlearn_layers.dropout import check_rate
from axlearn_layers.sequence import SequenceInfo, SequenceLayer


class LayerDrop(SequenceLayer):
    """In training y = x with probability `rate`, else inner(x); all layers at evaluation.

    LayerDrop (arXiv:1909.11556): one draw for the whole batch, and no rescaling. The layer is
    computed and its result dropped, so that this costs no less than without. Its summaries and
    state updates count all the same.
    """

    class Config(SequenceLayer.Config):
        inner: SequenceLayer.Config = TransformerBlock.default_config()
        rate: float = 0.0  # in [0, 1)

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        check_rate(cfg.rate)
        self.inner: SequenceLayer = self.add_child("inner", cfg.inner.set(input_dim=cfg.input_dim))

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        y = self.inner.forward(x, info)
        if not (self.config.rate and self.is_training):
            return y
        return jnp.where(jax.random.bernoulli(self.prng_key(), self.config.rate), x, y)

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return self.inner.init_cache(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        return self.inner.extend(x, cache, info)
