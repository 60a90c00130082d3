"""The transformer block."""

from __future__ import annotations

from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_core.parallel import constrain
from axlearn_layers.attention import Attention
from axlearn_layers.feed_forward import FeedForward, GatedFeedForward
from axlearn_layers.norms import Norm, RMSNorm
from axlearn_layers.sequence import SequenceInfo, SequenceLayer


class TransformerBlock(SequenceLayer):
    """h = x + attention(norm(x)); y = h + feed_forward(norm(h)): pre-norm (arXiv:2002.04745).

    What is called attention may be anything that mixes the tokens of a sequence.
    """

    class Config(SequenceLayer.Config):
        attention: SequenceLayer.Config = Attention.default_config()
        feed_forward: FeedForward.Config = GatedFeedForward.default_config()
        norm: Norm.Config = RMSNorm.default_config()  # of both norms

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        dim = cfg.input_dim
        self.attention_norm: Norm = self.add_child("attention_norm", cfg.norm.clone(input_dim=dim))
        self.attention: SequenceLayer = self.add_child(
            "attention", cfg.attention.set(input_dim=dim)
        )
        self.feed_forward_norm: Norm = self.add_child(
            "feed_forward_norm", cfg.norm.clone(input_dim=dim)
        )
        self.feed_forward: FeedForward = self.add_child(
            "feed_forward", cfg.feed_forward.set(input_dim=dim)
        )

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        return self._finish(x, self.attention.forward(self.attention_norm.forward(x), info))

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return self.attention.init_cache(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        mixed, cache = self.attention.extend(self.attention_norm.forward(x), cache, info)
        return self._finish(x, mixed), cache

    def _finish(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
        hidden = checkpoint_name(constrain(x + mixed, "batch", "seq", None), "block_hidden")
        fed = self.feed_forward.forward(self.feed_forward_norm.forward(hidden))
        return constrain(hidden + fed, "batch", "seq", None)
