"""A bias of attention scores that all layers of a stack share."""

from __future__ import annotations

from typing import Any

import jax

from axlearn_core.config import REQUIRED
from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_layers.attention_bias import AttentionBias
from axlearn_layers.sequence import SequenceInfo, SequenceLayer
from axlearn_layers.stack import Stack


class SharedBias(Stack):
    """Gives one bias, such as T5's table (arXiv:1910.10683), to all attention of `inner`.

    Attention with a bias of its own keeps that; cross attention takes none. The bias must say its
    `num_heads`, since nothing here knows how many the layers have.
    """

    class Config(Stack.Config):
        inner: SequenceLayer.Config = REQUIRED
        bias: AttentionBias.Config = REQUIRED

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.bias: AttentionBias = self.add_child("bias", cfg.bias)
        self.inner: SequenceLayer = self.add_child("inner", cfg.inner.set(input_dim=cfg.input_dim))

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        return self.inner.forward(x, info._replace(bias=self.bias.forward()))

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return self.inner.init_cache(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        return self.inner.extend(x, cache, info._replace(bias=self.bias.forward()))
