"""A cache that is no longer than the window of a layer's mask."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigBase, ConfigError, find
from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_layers import AttentionLayer, KVCache
from axlearn_layers.cache import NOWHERE, KeysAndValues, empty_slots, write_slots


class SlidingCache(KVCache):
    """A ring of as many slots as the mask's window has positions (Mistral 7B, arXiv:2310.06825).

    Position p lies in slot p mod n, so slots need not say what they hold: once a row has read
    position p, slot i holds p - ((p - i) mod n), or nothing where that is negative.

    One new token takes the place of the one that has just left the window, and looks at the ring.
    Of several at once the last would overwrite what the first still sees. So they look at the ring
    as it was, followed by themselves, and are written afterwards, the last n of those that count.
    Prompts and their chunks may therefore be of any length, and the ring needs no room for them.

    A layer whose mask has no window gets a ring as long as the sequence, which overwrites nothing.
    """

    class Config(KVCache.Config):
        # Slots beyond the window. A caller may forget one token more than this, as speculative
        # decoding does with those that it rejects.
        spare: int = 0

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        if config.spare < 0:
            raise ConfigError(f"spare (={config.spare}) is a number of slots, at least 0")
        if config.window is not None:
            self.rewinds = config.spare + 1

    @no_context
    def init(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        cfg = self.config
        slots = max_length if cfg.window is None else min(cfg.window + cfg.spare, max_length)
        shape = (batch_size, cfg.num_kv_heads, slots)
        value_dim = cfg.head_dim if cfg.value_dim is None else cfg.value_dim
        return {
            "key": empty_slots((*shape, cfg.head_dim), dtype, "batch"),
            "value": empty_slots((*shape, value_dim), dtype, "batch"),
        }

    def update(
        self, state: Tree, key: jax.Array, value: jax.Array, positions: jax.Array
    ) -> tuple[Tree, KeysAndValues]:
        new = {"key": key, "value": value}
        size = state["key"].shape[2]
        if positions.shape[1] == 1:
            slots = jnp.where(positions == NOWHERE, NOWHERE, positions % size)
            state = {name: write_slots(state[name], new[name], slots) for name in new}
            seen = {name: state[name].swapaxes(1, 2) for name in new}
            return state, KeysAndValues(**seen, positions=_held(positions, size))

        before = _held(positions[:, :1] - 1, size)
        seen = {
            name: jnp.concatenate([state[name].swapaxes(1, 2), new[name]], axis=1) for name in new
        }
        counted = jnp.sum(positions != NOWHERE, axis=1, keepdims=True)
        last = jnp.arange(positions.shape[1]) >= counted - size  # no two go to one slot
        slots = jnp.where(last & (positions != NOWHERE), positions % size, NOWHERE)
        state = {name: write_slots(state[name], new[name], slots) for name in new}
        places = jnp.concatenate([before, positions], axis=1)
        return state, KeysAndValues(**seen, positions=places)


def put_sliding(cfg: ConfigBase, new: KVCache.Config | None = None) -> list[str]:
    """Puts sliding caches on exactly the attention layers whose mask has a window, in place.

    So local layers of a pattern, as in Gemma 2 and 3, get rings, and global ones keep what they
    have. Layers that offer their keys keep theirs too, for nobody knows how far others look.

    Args:
        cfg: a model, or anything that holds one.
        new: the cache for these layers, or what wraps one; None is `SlidingCache`.

    Returns:
        The paths of these layers.

    Raises:
        ConfigError: if there are none.
    """
    new = SlidingCache.default_config() if new is None else new
    paths = []
    for path, node in find(cfg, AttentionLayer):
        assert isinstance(node, AttentionLayer.Config)
        remembers = isinstance(getattr(node, "cache", None), KVCache.Config)
        if remembers and node.mask.reach and not getattr(node, "offers_keys", False):
            node.set(cache=new)
            paths.append(path)
    if not paths:
        raise ConfigError(
            "no attention layer has a mask with a window, such as causal & window(4096), so a "
            "sliding cache would save nothing"
        )
    return paths


def _held(last: jax.Array, size: int) -> jax.Array:
    """Returns the positions [batch, size] in a ring that has read up to `last` [batch, 1]."""
    held = last - (last - jnp.arange(size)) % size
    return jnp.where(held < 0, NOWHERE, held)
