"""What recurrent layers have in common: a state of fixed size, passed on from token to token."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.module.context import Tree
from axlearn_layers.chunks import number_documents
from axlearn_layers.sequence import SequenceInfo, SequenceLayer


class RecurrentLayer(SequenceLayer):
    """A sequence layer that computes a whole sequence as an extension of an empty one.

    A subclass declares `init_cache` and `_mix`.
    """

    class Config(SequenceLayer.Config):
        """A recurrent layer's fields."""

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        document = number_documents(info.segment_ids, *x.shape[:2])
        empty = self.init_cache(x.shape[0], 0, x.dtype.name)
        return self._mix(x, empty, document, jnp.ones(x.shape[:2], bool))[0]

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        """As declared; tokens of segment 0 are padding at the end, and leave no trace."""
        counts = jnp.ones(x.shape[:2], bool) if info.segment_ids is None else info.segment_ids > 0
        return self._mix(x, cache, jnp.zeros(x.shape[:2], jnp.int32), counts)

    def _mix(
        self, x: jax.Array, cache: Tree, document: jax.Array, counts: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Extends what is in the cache by tokens, of which those count that `counts` says.

        Args:
            x: [batch, seq, input_dim].
            cache: As `init_cache` or the previous call returned it.
            document: [batch, seq] int, a new number where a new document resets the state.
            counts: [batch, seq] bool, False for padding.
        """
        raise NotImplementedError(type(self))
