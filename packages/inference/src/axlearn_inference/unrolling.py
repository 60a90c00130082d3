"""Layers one by one, in place of a loop over them.

A compiled loop takes each layer's part out of stacked parameters, which is a copy of all of them.
Training reads a parameter thousands of times per copy; a decoding step reads it once, so that the
copies are half of its time. Without the loop, programs take longer to compile and copy nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as with_fields
from functools import cache, partial
from typing import Any, TypeVar, cast

import jax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from axlearn_core.config import ConfigBase, find, replace
from axlearn_core.module import Module
from axlearn_core.module.context import Tree
from axlearn_inference.model import Generating, LanguageModel
from axlearn_layers import LayerList, Pipeline, Repeat, SequenceLayer

C = TypeVar("C", bound=ConfigBase)


def unrolled(model: LanguageModel) -> LanguageModel:
    """Returns the same model without loops over layers, each of which has arrays of its own.

    The parameters are used up: the tree that holds them is emptied on the way, so that no more
    than one array is there twice. A model without such loops, or with a pipeline, stays as it is.
    """
    module = cast(Module, model.module)
    if find(module.config, Pipeline) or not find(module.config, Repeat):
        return model
    layers = unrolled_config(module.config).instantiate(name=module.name)
    variables = unrolled_state(module, model.variables)
    return with_fields(model, module=cast(Generating, layers), variables=variables)


def unrolled_config(cfg: C) -> C | LayerList.Config:
    """Returns a copy in which a `LayerList` stands for each `Repeat`."""
    cfg = cfg.clone()
    if type(cfg) is Repeat.Config:
        layer = cast(SequenceLayer.Config, unrolled_config(cfg.layer))
        return LayerList.default_config().set(layers=[layer.clone() for _ in range(cfg.num_layers)])
    if find(cfg, Repeat) and not isinstance(cfg, Repeat.Config):
        replace(cfg, Repeat, unrolled_config)
    return cfg


def unrolled_state(module: Module, state: Tree) -> Tree:
    """Returns parameters, or a part of them, for `unrolled_config(module.config)`; see `unrolled`.

    Args:
        module: to which they belong.
        state: is emptied.
    """
    if isinstance(module, Repeat) and type(module) is not Repeat:
        return state
    found: Tree = {}
    for name in list(state):
        part, child = state.pop(name), module.children.get(name)
        if child is None:
            found[name] = part
        elif isinstance(module, Repeat):
            for number, layer in enumerate(_split(part, module.config.num_layers)):
                found[f"layer{number}"] = unrolled_state(child, layer)
        else:
            found[name] = unrolled_state(child, part)
    return found


def _split(stacked: Tree, count: int) -> list[Tree]:
    """Returns one tree for each entry of the leading axis of a tree's arrays; empties the tree."""
    layers: list[Tree] = [{} for _ in range(count)]
    for name in list(stacked):
        part, each = stacked.pop(name), list[Any]()
        if isinstance(part, dict):
            each = _split(part, count)
        elif isinstance(part, jax.Array):
            take = _taker(_below(part.sharding))
            each = [take(part, number) for number in range(count)]
        else:
            each = list(part)
        for layer, own in zip(layers, each, strict=True):
            layer[name] = own
    return layers


def _below(sharding: Sharding) -> Sharding:
    """Returns the sharding of an entry of the leading axis."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))


@cache
def _taker(sharding: Sharding) -> Callable[[jax.Array, int], jax.Array]:
    return jax.jit(partial(jax.lax.dynamic_index_in_dim, keepdims=False), out_shardings=sharding)
