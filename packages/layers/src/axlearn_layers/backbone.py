"""What lies between the vectors of tokens and a head."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED
from axlearn_core.module import Layer, no_context
from axlearn_core.module.context import Tree
from axlearn_layers.dropout import Dropout
from axlearn_layers.norms import Norm, RMSNorm
from axlearn_layers.positions import PositionEmbedding
from axlearn_layers.residual_stream import on_stream
from axlearn_layers.sequence import SequenceInfo, SequenceLayer
from axlearn_layers.stack import Repeat


class Backbone(Layer):
    """y = norm(stack(dropout(embedding_norm(x + positions)))), for x [batch, seq, dim].

    Abstract: subclasses say where the vectors come from and where they go. Activations have the
    dtype of x.
    """

    class Config(Layer.Config):
        dim: int = REQUIRED  # width of the residual stream
        positions: PositionEmbedding.Config | None = None  # None where attention has its own
        embedding_norm: Norm.Config | None = None  # of the embeddings; BERT and BLOOM have one
        dropout: Dropout.Config = Dropout.default_config()  # of the embeddings
        stack: SequenceLayer.Config = Repeat.default_config()
        norm: Norm.Config | None = RMSNorm.default_config()  # of what the head reads

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.positions: PositionEmbedding | None = None
        if cfg.positions is not None:
            self.positions = self.add_child("positions", cfg.positions.set(dim=cfg.dim))
        self.embedding_norm: Norm | None = None
        if cfg.embedding_norm is not None:
            self.embedding_norm = self.add_child(
                "embedding_norm", cfg.embedding_norm.set(input_dim=cfg.dim)
            )
        self.dropout: Dropout = self.add_child("dropout", cfg.dropout)
        self.stack: SequenceLayer = self.add_child("stack", cfg.stack.set(input_dim=cfg.dim))
        self.norm: Norm | None = None
        if cfg.norm is not None:
            self.norm = self.add_child("norm", cfg.norm.set(input_dim=cfg.dim))

    @property
    def max_length(self) -> int | None:
        """The longest sequence, in tokens, where positions are a table; None is any."""
        return None if self.positions is None else self.positions.max_length

    def _run(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        return self._normed(self.stack.forward(self._prepare(x, info.positions), info))

    def _run_on(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        """Like `_run`, for further tokens of sequences whose beginning is in the stack's cache."""
        x, cache = self.stack.extend(self._prepare(x, info.positions), cache, info)
        return self._normed(x), cache

    def _normed(self, x: jax.Array) -> jax.Array:
        return x if self.norm is None else self.norm.forward(x)

    def _prepare(self, x: jax.Array, positions: jax.Array | None) -> jax.Array:
        if self.positions is not None:
            if positions is None:
                positions = jnp.arange(x.shape[1])[None]
            x = x + self.positions.forward(positions)
        if self.embedding_norm is not None:
            x = self.embedding_norm.forward(x)
        return on_stream(self.dropout.forward(x))


class TokenStack(Backbone):
    """A backbone by itself: the encoder or the decoder of a model that has both."""

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        """[batch, seq, dim] -> [batch, seq, dim], the whole sequence at once."""
        return self._run(x, info)

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """See `SequenceLayer.init_cache`."""
        return self.stack.init_cache(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        """See `SequenceLayer.extend`."""
        return self._run_on(x, cache, info)
