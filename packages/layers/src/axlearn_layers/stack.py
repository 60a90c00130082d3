"""Depth: layers one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError, Configurable
from axlearn_core.kernels import same_segment
from axlearn_core.module import (
    ParameterSpecs,
    fold_in_name,
    no_context,
    remat,
    scan_layers,
    stacked_initialize,
    stacked_specs,
)
from axlearn_core.module.context import Tree
from axlearn_layers.attention import Attention
from axlearn_layers.block import TransformerBlock
from axlearn_layers.cache import cache_of_layer, with_cache_of_layer
from axlearn_layers.flops import flops_per_token
from axlearn_layers.sequence import SequenceInfo, SequenceLayer


class Remat(Configurable):
    """Which activations of a layer to keep for the backward pass; the rest is made again.

    Names are those that layers give with `checkpoint_name`, such as `attention_query`,
    `attention_context`, `feed_forward_gate_up` and `block_hidden`.
    """

    class Config(Configurable.Config):
        save: str | None = None  # regular expression over whole names; None keeps nothing
        offload: str | None = None  # the same; kept in host memory


class StackedLayer(NamedTuple):
    """One layer of a stack, and where its parameters are: `state[a][b][c][indices]`."""

    layer: SequenceLayer
    path: tuple[str, ...]  # a, b, c: names below the stack
    indices: tuple[int, ...]  # into the leading axes of each parameter there


class Stack(SequenceLayer):
    """A sequence layer made of others."""

    @no_context
    def unrolled(self) -> Iterator[StackedLayer]:
        """Yields each layer in the order of computation; stacks in a stack are unrolled too."""
        raise NotImplementedError(type(self))


class Repeat(Stack):
    """`num_layers` layers of one config, each with its own parameters, as one compiled loop.

    Compile time does not grow with depth. Parameters and summaries have a leading axis of
    `num_layers`. Without `remat` each layer keeps what it needs but what is cheap to make again
    (attention weights, norms, gates); with it, only the layer's input and what `remat` names.
    """

    class Config(Stack.Config):
        layer: SequenceLayer.Config = TransformerBlock.default_config()
        num_layers: int = REQUIRED
        remat: Remat.Config | None = None

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.num_layers < 1:
            raise ConfigError(f"num_layers (={cfg.num_layers}) must be at least 1")
        self.layer: SequenceLayer = self.add_child("layer", cfg.layer.set(input_dim=cfg.input_dim))

    @no_context
    def parameter_specs(self) -> ParameterSpecs:
        return {"layer": stacked_specs(self.layer, self.config.num_layers)}

    @no_context
    def initialize(self, key: jax.Array) -> Tree:
        key = fold_in_name(key, "layer")
        return {"layer": stacked_initialize(self.layer, self.config.num_layers, key)}

    @no_context
    def unrolled(self) -> Iterator[StackedLayer]:
        for number in range(self.config.num_layers):
            for layer, path, indices in unrolled_layers(self.layer):
                yield StackedLayer(layer, ("layer", *path), (number, *indices))

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """All layers alike."""
        return self.config.num_layers * flops_per_token(self.layer, seq_length)

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        def body(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return with_remat(self.layer, self.config.remat)(x, info), None

        x, _ = scan_layers(self.layer, body, x, count=self.config.num_layers)
        return x

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        one = self.layer.init_cache(batch_size, max_length, dtype)
        return stacked_cache(one, self.config.num_layers)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        return extend_layers(self.layer, x, cache, info, count=self.config.num_layers)


class LayerList(Stack):
    """Layers of any kinds, one after the other: `layer0`, `layer1`, ...

    Each is compiled by itself. So deep models repeat: `Repeat` of a list is a scanned pattern, a
    list of `Repeat`s changes its kind on the way, and both nest; see `scanned_pattern`.
    """

    class Config(Stack.Config):
        layers: list[SequenceLayer.Config] = REQUIRED
        remat: Remat.Config | None = None  # of each layer, as in `Repeat`

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if not cfg.layers:
            raise ConfigError("layers (=[]) must hold at least one layer")
        self.layers: list[SequenceLayer] = [
            self.add_child(f"layer{index}", layer.set(input_dim=cfg.input_dim))
            for index, layer in enumerate(cfg.layers)
        ]

    @no_context
    def unrolled(self) -> Iterator[StackedLayer]:
        for child in self.layers:
            for layer, path, indices in unrolled_layers(child):
                yield StackedLayer(layer, (child.name, *path), indices)

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        for layer in self.layers:
            x = with_remat(layer, self.config.remat)(x, info)
        return x

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return {
            layer.name: layer.init_cache(batch_size, max_length, dtype) for layer in self.layers
        }

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        extended: Tree = {}
        for layer in self.layers:
            x, extended[layer.name] = layer.extend(x, cache[layer.name], info)
        return x, extended


def both_directions() -> Repeat.Config:
    """Returns an encoder's stack: blocks whose attention looks at tokens on both sides."""
    attention = Attention.default_config().set(mask=same_segment())
    layer = TransformerBlock.default_config().set(attention=attention)
    return Repeat.default_config().set(layer=layer)


def scanned_pattern(
    pattern: Sequence[SequenceLayer.Config],
    num_layers: int,
    *,
    remat: Remat.Config | None = None,
) -> Stack.Config:
    """Returns the stack of `num_layers` layers that follow a pattern over and over.

    `scanned_pattern([local] * 5 + [global_], 26)` scans over 4 times 6 layers; 2 more local ones
    come after them.
    """
    if not pattern or num_layers < len(pattern):
        raise ConfigError(
            f"num_layers (={num_layers}) must be at least the length of the pattern "
            f"(={len(pattern)}), which must not be empty"
        )
    period = LayerList.default_config().set(layers=list(pattern), remat=remat)
    count, rest = divmod(num_layers, len(pattern))
    repeated = Repeat.default_config().set(layer=period, num_layers=count)
    if not rest:
        return repeated
    return LayerList.default_config().set(
        layers=[repeated, period.clone(layers=list(pattern[:rest]))]
    )


def stacked_cache(one: Tree, count: int) -> Tree:
    """Returns the cache of `count` layers that have one like this each."""
    stacked: Tree = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), one)
    return stacked


def extend_layers(
    layer: SequenceLayer,
    x: jax.Array,
    cache: Tree,
    info: SequenceInfo,
    *,
    count: int,
    state: Tree | None = None,
) -> tuple[jax.Array, Tree]:
    """Extends through `count` copies of a layer, whose caches are stacked; see `scan_layers`."""

    def collect(x: jax.Array, cache: Tree) -> tuple[jax.Array, Tree]:
        return layer.extend(x, cache, info)

    def overwrite(carry: tuple[jax.Array, Tree], index: jax.Array) -> tuple[Any, None]:
        x, caches = carry
        x, new = layer.extend(x, cache_of_layer(caches, index), info)
        return (x, with_cache_of_layer(caches, index, new)), None

    if info.memory is not None:  # a cache that had no arrays gets some
        return scan_layers(layer, collect, x, cache, count=count, state=state)
    # Carried, the caches stay where they are; a loop that collects them writes all anew.
    carry, _ = scan_layers(
        layer, overwrite, (x, cache), jnp.arange(count), count=count, state=state
    )
    return carry


def unrolled_layers(layer: SequenceLayer) -> Iterator[StackedLayer]:
    """Yields the layers of a stack, or else the one layer that it is."""
    if isinstance(layer, Stack):
        yield from layer.unrolled()
    else:
        yield StackedLayer(layer, (), ())


def with_remat(
    layer: SequenceLayer, policy: Remat.Config | None
) -> Callable[[jax.Array, SequenceInfo], jax.Array]:
    """Returns the layer's `forward`, which keeps what the policy says."""
    if policy is None:
        return layer.forward
    return remat(layer.forward, save=policy.save, offload=policy.offload)
