"""What attention remembers of the tokens before."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED
from axlearn_core.module import Module, no_context
from axlearn_core.module.context import Tree
from axlearn_core.parallel import constrain

NOWHERE = 2**30
"""A position later than any query, at which causal masks do not look: that of slots which hold
nothing, and of padding, which no cache stores."""


class KeysAndValues(NamedTuple):
    """What queries may look at."""

    key: jax.Array  # [batch, slots, num_kv_heads, head_dim]
    value: jax.Array  # [batch, slots, num_kv_heads, value_dim]
    # [slots] or [batch, slots] int, where each stands in its sequence; None is 0, 1, 2, ...
    positions: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pool:
    """An array of a cache of which a step touches little, however large it is.

    Stacked layers hand theirs on as one array and the place of each layer in it, rather than a
    part each, which would have to be copied.
    """

    array: jax.Array
    layer: tuple[jax.Array, ...] = ()  # of this layer; an index into each leading axis

    def layer_like(self, index: jax.Array) -> tuple[jax.Array, ...]:
        """Returns what to put before an array of indices into this layer's part.

        In their shape, since jax takes a part out of the array before it applies other indices
        if the first one is a scalar.
        """
        return tuple(jnp.broadcast_to(each, index.shape) for each in self.layer)


class KVCache(Module):
    """Stores keys and values. Its state is a tree of arrays that the caller keeps."""

    class Config(Module.Config):
        # Set by the attention.
        num_kv_heads: int = REQUIRED
        head_dim: int = REQUIRED
        value_dim: int | None = None  # None is head_dim
        # How many of the last tokens a query may see, itself included; None is all of them.
        window: int | None = None

    # How many of the last tokens are forgotten by going on at an earlier position.
    rewinds: float = math.inf

    @no_context
    def init(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """Returns the state of a cache that holds nothing, placed where its heads are."""
        raise NotImplementedError(type(self))

    def update(
        self, state: Tree, key: jax.Array, value: jax.Array, positions: jax.Array
    ) -> tuple[Tree, KeysAndValues]:
        """Stores new keys and values, [batch, seq, ...], at positions [batch, seq].

        Those of a row follow one another; padding comes last, and its position is `NOWHERE`.

        Returns:
            The new state, and all that queries may look at. Keys that a mask with `causal()`
            forbids may hold anything.
        """
        raise NotImplementedError(type(self))


class ContiguousCache(KVCache):
    """One slot for each position up to the longest: slot i holds position i.

    What was never written stands at later positions than any query, where causal masks do not
    look. Slots are stored by heads, [batch, num_kv_heads, slots, dim]: in this order attention
    multiplies them as they lie, and in that of the tokens it would copy all of them first.
    """

    @no_context
    def init(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        cfg = self.config
        shape = (batch_size, cfg.num_kv_heads, max_length)
        value_dim = cfg.head_dim if cfg.value_dim is None else cfg.value_dim
        return {
            "key": empty_slots((*shape, cfg.head_dim), dtype, "batch"),
            "value": empty_slots((*shape, value_dim), dtype, "batch"),
        }

    def update(
        self, state: Tree, key: jax.Array, value: jax.Array, positions: jax.Array
    ) -> tuple[Tree, KeysAndValues]:
        state = {
            "key": write_slots(state["key"], key, positions),
            "value": write_slots(state["value"], value, positions),
        }
        keys, values = (state[name].swapaxes(1, 2) for name in ("key", "value"))
        return state, KeysAndValues(keys, values, jnp.arange(keys.shape[1]))


def empty_slots(shape: tuple[int, ...], dtype: str, first: str | None) -> jax.Array:
    """Returns zeros, [..., heads, slots, dim], of which `first` is the first logical axis."""
    return constrain(jnp.zeros(shape, dtype), first, "kv_heads", None, None)


def write_slots(stored: jax.Array, new: jax.Array, slots: jax.Array) -> jax.Array:
    """Writes [batch, seq, heads, dim] into slots [batch, seq] of [batch, heads, slots, dim].

    What goes to a slot that is not there is dropped.
    """
    rows = jnp.arange(new.shape[0])[:, None]
    return stored.at[rows, :, slots].set(new.astype(stored.dtype), mode="drop")


def places_to_store(positions: jax.Array, segment_ids: jax.Array | None) -> jax.Array:
    """Returns the positions [batch, seq] at which a cache stores tokens; padding has none."""
    return positions if segment_ids is None else jnp.where(segment_ids > 0, positions, NOWHERE)


def cache_of_layer(stacked: Tree, index: jax.Array) -> Tree:
    """Returns the cache of one of several layers, whose arrays are stacked."""

    def one(leaf: jax.Array | Pool) -> jax.Array | Pool:
        if isinstance(leaf, Pool):
            return Pool(leaf.array, (*leaf.layer, index))
        part: jax.Array = jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False)
        return part

    cache: Tree = jax.tree.map(one, stacked, is_leaf=_is_pool)
    return cache


def with_cache_of_layer(stacked: Tree, index: jax.Array, new: Tree) -> Tree:
    """Returns the caches of several layers, of which one is new."""

    def changed(leaf: jax.Array | Pool, new: jax.Array | Pool) -> jax.Array | Pool:
        if isinstance(leaf, Pool):
            assert isinstance(new, Pool)
            return Pool(new.array, leaf.layer)
        whole: jax.Array = jax.lax.dynamic_update_index_in_dim(leaf, new, index, axis=0)
        return whole

    caches: Tree = jax.tree.map(changed, stacked, new, is_leaf=_is_pool)
    return caches


def _is_pool(node: object) -> bool:
    return isinstance(node, Pool)
