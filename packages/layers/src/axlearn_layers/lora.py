"""Low-rank adapters around projections."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import (
    FanIn,
    Module,
    ParameterSpec,
    ParameterSpecs,
    map_specs,
    no_context,
    zeros,
)
from axlearn_core.module.context import Tree
from axlearn_layers.linear import Projection


class LoRA(Projection):
    """y = inner(x) + alpha / rank * (x A) B (arXiv:2106.09685). B starts at 0, and y at inner(x).

    A is [*input_dim, rank] and B [rank, *output_dim]. What is wrapped is frozen: it has neither
    gradient nor optimizer state. To put it around every projection of a model::

        replace(cfg, Projection, lambda old: LoRA.default_config().set(inner=old))
    """

    class Config(Projection.Config):
        inner: Projection.Config = REQUIRED
        rank: int = 8
        alpha: float = 16.0

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.rank < 1:
            raise ConfigError(f"rank (={cfg.rank}) must be at least 1")
        self.inner: Projection = self.add_child(
            "inner",
            cfg.inner.set(
                input_dim=cfg.input_dim,
                output_dim=cfg.output_dim,
                input_axes=cfg.input_axes,
                output_axes=cfg.output_axes,
            ),
        )
        self._scale = cfg.alpha / cfg.rank

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        inputs, outputs = _dims(cfg.input_dim), _dims(cfg.output_dim)
        return {
            "a": ParameterSpec(
                (*inputs, cfg.rank),
                (*_dims(cfg.input_axes), None),
                FanIn.default_config().instantiate(),
                cfg.dtype,
                fan_in_axes=tuple(range(len(inputs))),
            ),
            "b": ParameterSpec(
                (cfg.rank, *outputs), (None, *_dims(cfg.output_axes)), zeros, cfg.dtype
            ),
        }

    @no_context
    def parameter_specs(self) -> ParameterSpecs:
        specs = super().parameter_specs()
        frozen = map_specs(lambda spec: dataclasses.replace(spec, trainable=False), specs["inner"])
        return {**specs, "inner": frozen}

    def forward(self, x: jax.Array) -> jax.Array:
        a, b = self.param("a").astype(x.dtype), self.param("b").astype(x.dtype)
        low = jnp.tensordot(x, a, axes=a.ndim - 1)
        return self.inner.forward(x) + self._scale * jnp.tensordot(low, b, axes=1)

    @no_context
    def delta(self, state: Tree) -> jax.Array:
        """Returns alpha / rank * A B, as it is added to the weight; of stacked layers, stacked."""
        cfg = self.config
        shape = _dims(cfg.input_dim) + _dims(cfg.output_dim)
        a, b = state["a"], state["b"]
        layers = a.shape[: a.ndim - len(_dims(cfg.input_dim)) - 1]
        flat_a = a.reshape(*layers, math.prod(_dims(cfg.input_dim)), cfg.rank)
        flat_b = b.reshape(*layers, cfg.rank, -1)
        return self._scale * jnp.matmul(flat_a, flat_b, precision="float32").reshape(
            *layers, *shape
        )


def merge_adapters(module: Module, state: Tree) -> Tree:
    """Returns the parameters of the same model without adapters that computes the same.

    Args:
        module: with `LoRA`s anywhere below it.
        state: its parameters, which stay as they are.
    """
    if not isinstance(module, LoRA):
        return _over_children(merge_adapters, module, state)
    base = merge_adapters(module.inner, state["inner"])
    return {**base, "weight": _weight(module, base) + module.delta(state)}


def unmerge_adapters(module: Module, merged: Tree, adapters: Tree) -> Tree:
    """Undoes `merge_adapters`, up to the rounding of a float32 sum.

    Args:
        module: with `LoRA`s anywhere below it.
        merged: what `merge_adapters` returned.
        adapters: holds the A and B that were merged, such as the parameters before.
    """
    if not isinstance(module, LoRA):
        return _over_children(unmerge_adapters, module, merged, adapters)
    base = {**merged, "weight": _weight(module, merged) - module.delta(adapters)}
    inner = unmerge_adapters(module.inner, base, adapters["inner"])
    return {"inner": inner, "a": adapters["a"], "b": adapters["b"]}


def _over_children(function: Any, module: Module, state: Tree, *others: Tree) -> Tree:
    return {
        name: function(module.children[name], value, *(other[name] for other in others))
        if name in module.children
        else value
        for name, value in state.items()
    }


def _weight(module: LoRA, base: Tree) -> jax.Array:
    if "weight" not in base:
        raise ValueError(
            f"{module.path}.inner has no parameter 'weight' to merge the adapter into; "
            f"it has: {', '.join(sorted(base)) or 'none'}"
        )
    weight: jax.Array = base["weight"]
    return weight


def _dims(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
