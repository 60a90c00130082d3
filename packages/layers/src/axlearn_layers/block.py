"""Transformer blocks: where the norms of the residual branches stand.

Each block takes the same parts, so that exchanging one for another is one word. What is called
attention may be anything that mixes the tokens of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_layers.attention import Attention
from axlearn_layers.dropout import Dropout
from axlearn_layers.feed_forward import FeedForward, GatedFeedForward
from axlearn_layers.norms import Norm, RMSNorm
from axlearn_layers.residual_stream import into_branch, on_stream, out_of_branch
from axlearn_layers.sequence import SequenceInfo, SequenceLayer

Attend = Callable[[jax.Array], tuple[jax.Array, Tree]]
"""Mixes the tokens of x, and returns the new cache too; it is empty where there is none."""


class Block(SequenceLayer):
    """Attention, then feed-forward, each added to what comes in. Subclasses place the norms."""

    class Config(SequenceLayer.Config):
        attention: SequenceLayer.Config = Attention.default_config()
        feed_forward: FeedForward.Config = GatedFeedForward.default_config()
        norm: Norm.Config = RMSNorm.default_config()  # of all norms
        dropout: Dropout.Config = Dropout.default_config()  # of what either branch computes
        # Multiplies what a branch adds, such as (2 * depth) ** -0.5; Granite's residual_multiplier.
        branch_scale: float | None = None

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        dim = cfg.input_dim
        self.attention: SequenceLayer = self.add_child(
            "attention", cfg.attention.set(input_dim=dim)
        )
        self.feed_forward: FeedForward = self.add_child(
            "feed_forward", cfg.feed_forward.set(input_dim=dim)
        )

        self.dropout: Dropout = self.add_child("dropout", cfg.dropout)

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        def attend(x: jax.Array) -> tuple[jax.Array, Tree]:
            return self._branch(self.attention.forward(into_branch(x), info)), {}

        return self._compute(x, attend)[0]

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return self.attention.init_cache(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        def attend(x: jax.Array) -> tuple[jax.Array, Tree]:
            mixed, extended = self.attention.extend(into_branch(x), cache, info)
            return self._branch(mixed), extended

        return self._compute(x, attend)

    def _compute(self, x: jax.Array, attend: Attend) -> tuple[jax.Array, Tree]:
        raise NotImplementedError(type(self))

    def _feed(self, x: jax.Array) -> jax.Array:
        return self._branch(self.feed_forward.forward(into_branch(x)))

    def _branch(self, x: jax.Array) -> jax.Array:
        scale, x = self.config.branch_scale, out_of_branch(x)
        return self.dropout.forward(x if scale is None else scale * x)

    def _add_norm(self, name: str) -> Norm:
        norm: Norm = self.add_child(name, self.config.norm.clone(input_dim=self.config.input_dim))
        return norm


class TransformerBlock(Block):
    """h = x + attention(norm(x)); y = h + feed_forward(norm(h)): pre-norm (arXiv:2002.04745)."""

    def __init__(self, config: Block.Config, **place: Any):
        super().__init__(config, **place)
        self.attention_norm = self._add_norm("attention_norm")
        self.feed_forward_norm = self._add_norm("feed_forward_norm")

    def _compute(self, x: jax.Array, attend: Attend) -> tuple[jax.Array, Tree]:
        mixed, cache = attend(self.attention_norm.forward(x))
        hidden = _hidden(x + mixed)
        fed = self._feed(self.feed_forward_norm.forward(hidden))
        return on_stream(hidden + fed), cache


class PostNormBlock(Block):
    """h = norm(x + attention(x)); y = norm(h + feed_forward(h)) (arXiv:1706.03762; BERT)."""

    def __init__(self, config: Block.Config, **place: Any):
        super().__init__(config, **place)
        self.attention_norm = self._add_norm("attention_norm")
        self.feed_forward_norm = self._add_norm("feed_forward_norm")

    def _compute(self, x: jax.Array, attend: Attend) -> tuple[jax.Array, Tree]:
        mixed, cache = attend(x)
        hidden = _hidden(self.attention_norm.forward(x + mixed))
        fed = self._feed(hidden)
        return on_stream(self.feed_forward_norm.forward(hidden + fed)), cache


class BranchNormBlock(Block):
    """h = x + norm(attention(x)); y = h + norm(feed_forward(h)) (OLMo 2, arXiv:2501.00656)."""

    def __init__(self, config: Block.Config, **place: Any):
        super().__init__(config, **place)
        self.attention_norm = self._add_norm("attention_norm")
        self.feed_forward_norm = self._add_norm("feed_forward_norm")

    def _compute(self, x: jax.Array, attend: Attend) -> tuple[jax.Array, Tree]:
        mixed, cache = attend(x)
        hidden = _hidden(x + self.attention_norm.forward(mixed))
        fed = self._feed(hidden)
        return on_stream(hidden + self.feed_forward_norm.forward(fed)), cache


class SandwichBlock(Block):
    """h = x + norm(attention(norm(x))); y = h + norm(feed_forward(norm(h))).

    As in CogView (arXiv:2105.13290) and Gemma 2 (arXiv:2408.00118); four norms, each its own.
    """

    def __init__(self, config: Block.Config, **place: Any):
        super().__init__(config, **place)
        self.attention_norm = self._add_norm("attention_norm")
        self.attention_output_norm = self._add_norm("attention_output_norm")
        self.feed_forward_norm = self._add_norm("feed_forward_norm")
        self.feed_forward_output_norm = self._add_norm("feed_forward_output_norm")

    def _compute(self, x: jax.Array, attend: Attend) -> tuple[jax.Array, Tree]:
        mixed, cache = attend(self.attention_norm.forward(x))
        hidden = _hidden(x + self.attention_output_norm.forward(mixed))
        fed = self._feed(self.feed_forward_norm.forward(hidden))
        return on_stream(hidden + self.feed_forward_output_norm.forward(fed)), cache


class ParallelBlock(Block):
    """n = norm(x); y = x + attention(n) + feed_forward(n) (GPT-J; PaLM, arXiv:2204.02311)."""

    def __init__(self, config: Block.Config, **place: Any):
        super().__init__(config, **place)
        self.norm = self._add_norm("norm")

    def _compute(self, x: jax.Array, attend: Attend) -> tuple[jax.Array, Tree]:
        normed = self.norm.forward(x)
        mixed, cache = attend(normed)
        return on_stream(x + mixed + self._feed(normed)), cache


def _hidden(x: jax.Array) -> jax.Array:
    hidden: jax.Array = checkpoint_name(on_stream(x), "block_hidden")
    return hidden
