"""Keys and values that several layers share."""

from __future__ import annotations

from typing import Any

import jax

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import OutputCollection, capture, emit, flatten_paths, no_context
from axlearn_core.module.context import Tree
from axlearn_layers.cache import KeysAndValues
from axlearn_layers.sequence import SequenceInfo, SequenceLayer
from axlearn_layers.stack import Stack


class SharedKeys(Stack):
    """Layers of which the later ones attend to the keys and values of the first (arXiv:2507.13575).

    The attention of `first` has `offers_keys=True`, that of `rest` makes queries only::

        rest.attention.qkv = Rotary.default_config().set(inner=QueryOnly.default_config())

    So the cache of `first` serves all of them, and reading a prompt may end there. `rest` is any
    stack; what its layers do not share (feed-forward layers, norms) stays their own.
    """

    class Config(Stack.Config):
        first: SequenceLayer.Config = REQUIRED
        rest: SequenceLayer.Config = REQUIRED

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.first: SequenceLayer = self.add_child("first", cfg.first.set(input_dim=cfg.input_dim))
        self.rest: SequenceLayer = self.add_child("rest", cfg.rest.set(input_dim=cfg.input_dim))

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        x, outputs = capture(self.first.forward)(x, info)
        return self.rest.forward(x, info._replace(shared=self._take_keys(outputs)))

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """The caches of `first` and of `rest`, which needs none for what it shares."""
        return {
            layer.name: layer.init_cache(batch_size, max_length, dtype)
            for layer in (self.first, self.rest)
        }

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        (x, first), outputs = capture(self.first.extend)(x, cache["first"], info)
        info = info._replace(shared=self._take_keys(outputs))
        x, rest = self.rest.extend(x, cache["rest"], info)
        return x, {"first": first, "rest": rest}

    def _take_keys(self, outputs: OutputCollection) -> KeysAndValues:
        """Takes the offered keys out of the side outputs of `first`, and passes on the others."""
        offers = [
            path for path in flatten_paths(outputs.module_outputs) if path.endswith("offered_keys")
        ]
        if len(offers) != 1:
            raise ConfigError(
                f"{self.first.path} must offer keys once, not {len(offers)} times: set "
                "offers_keys=True in the attention of exactly one layer of `first`"
            )
        *parents, name = offers[0].split("/")
        holder = outputs.module_outputs
        for parent in parents:
            holder = holder[parent]
        keys: KeysAndValues = holder.pop(name)
        emit(outputs)
        return keys
