"""The interface of everything that maps a sequence of vectors to one of the same width.

Attention, a transformer block and a whole stack have it alike, so each can stand in the other's
place: a stack repeats any sequence layer, also another stack.
"""

from __future__ import annotations

from typing import NamedTuple

import jax

from axlearn_core.config import REQUIRED
from axlearn_core.kernels import ScoreBias
from axlearn_core.module import Layer, no_context
from axlearn_core.module.context import Tree
from axlearn_layers.cache import KeysAndValues


class Memory(NamedTuple):
    """Another sequence that cross attention reads, such as an encoder's output."""

    vectors: jax.Array  # [batch, memory, dim]
    segment_ids: jax.Array | None = None  # [batch, memory] int32, 0 is padding; None is none


class SequenceInfo(NamedTuple):
    """What is known of the tokens besides their vectors. Every layer gets all of it."""

    # [batch, seq] int32, a token's place in its own document; None is 0, 1, 2, ...
    positions: jax.Array | None = None
    # [batch, seq] int32, 0 is padding, packed documents are 1, 2, ...; None is one document a row.
    segment_ids: jax.Array | None = None
    # What stacks give to the layers below them.
    memory: Memory | None = None
    shared: KeysAndValues | None = None  # of an earlier layer, see `SharedKeys`
    bias: tuple[ScoreBias, jax.Array | None] | None = None  # of all scores, see `SharedBias`


class SequenceLayer(Layer):
    """Maps [batch, seq, input_dim] to the same shape, whole or, with a cache, piece by piece."""

    class Config(Layer.Config):
        input_dim: int = REQUIRED  # width of the vectors that come in and go out

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        """Computes the whole sequence at once."""
        raise NotImplementedError(type(self))

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """Returns an empty cache, for sequences of up to `max_length` tokens."""
        raise NotImplementedError(type(self))

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        """Computes further tokens of sequences whose beginning is in the cache.

        Args:
            x: [batch, seq, input_dim], one or more tokens per sequence.
            cache: As `init_cache` or the previous call returned it.
            info: With positions, which say where in its sequence each token stands. Segment ids
                are 1, or 0 for padding at the end of a prompt; None is no padding.

        Returns:
            What `forward` over the whole sequence would give for these tokens, and the new cache.
        """
        raise NotImplementedError(type(self))
