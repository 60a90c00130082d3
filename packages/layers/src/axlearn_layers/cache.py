"""What attention remembers of the tokens before."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED
from axlearn_core.module import Module, no_context
from axlearn_core.module.context import Tree


class KeysAndValues(NamedTuple):
    """What queries may look at."""

    key: jax.Array  # [batch, slots, num_kv_heads, head_dim]
    value: jax.Array  # [batch, slots, num_kv_heads, value_dim]
    # [slots] or [batch, slots] int, where each stands in its sequence; None is 0, 1, 2, ...
    positions: jax.Array | None = None


class KVCache(Module):
    """Stores keys and values. Its state is a tree of arrays that the caller keeps."""

    class Config(Module.Config):
        # Set by the attention.
        num_kv_heads: int = REQUIRED
        head_dim: int = REQUIRED
        value_dim: int | None = None  # None is head_dim

    # How many of the last tokens are forgotten by going on at an earlier position.
    rewinds: float = math.inf

    @no_context
    def init(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """Returns the state of a cache that holds nothing."""
        raise NotImplementedError(type(self))

    def update(
        self, state: Tree, key: jax.Array, value: jax.Array, positions: jax.Array
    ) -> tuple[Tree, KeysAndValues]:
        """Stores new keys and values, [batch, seq, ...], at positions [batch, seq].

        Returns:
            The new state, and all that queries may look at. Keys that a mask with `causal()`
            forbids may hold anything.
        """
        raise NotImplementedError(type(self))


class ContiguousCache(KVCache):
    """One slot for each position up to the longest: slot i holds position i.

    What was never written stands at later positions than any query, where causal masks do not
    look. For the same reason padding at the end of a prompt does no harm: the tokens that follow
    the prompt overwrite it before they could see it.
    """

    @no_context
    def init(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        cfg = self.config
        shape = (batch_size, max_length, cfg.num_kv_heads)
        value_dim = cfg.head_dim if cfg.value_dim is None else cfg.value_dim
        return {
            "key": jnp.zeros((*shape, cfg.head_dim), dtype),
            "value": jnp.zeros((*shape, value_dim), dtype),
        }

    def update(
        self, state: Tree, key: jax.Array, value: jax.Array, positions: jax.Array
    ) -> tuple[Tree, KeysAndValues]:
        rows = jnp.arange(key.shape[0])[:, None]
        keys = state["key"].at[rows, positions].set(key.astype(state["key"].dtype), mode="drop")
        values = (
            state["value"].at[rows, positions].set(value.astype(state["value"].dtype), mode="drop")
        )
        slots = jnp.arange(keys.shape[1])
        return {"key": keys, "value": values}, KeysAndValues(keys, values, slots)
