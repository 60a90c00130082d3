"""What all adapters of projections have in common."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import (
    FanIn,
    ParameterSpec,
    ParameterSpecs,
    map_specs,
    no_context,
    zeros,
)
from axlearn_core.module.context import Tree
from axlearn_layers.linear import Projection, as_tuple


class Adapter(Projection):
    """A projection around another, changed by D = alpha / rank * A B (arXiv:2106.09685).

    A is [*input_dim, rank] and B [rank, *output_dim]. B starts at 0, and so does the change: at
    first every adapter computes what is inside of it, to the bit. What is inside is frozen: it has
    neither gradient nor optimizer state. To put one around every projection of a model::

        replace(cfg, Projection, lambda old: LoRA.default_config().set(inner=old))

    A subclass says what it computes, and what weight a model without it would need for that.
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
        self.scale: float = cfg.alpha / cfg.rank

    @no_context
    def low_rank_parameters(self) -> dict[str, ParameterSpec]:
        """Returns the declarations of A and B."""
        cfg = self.config
        inputs, outputs = as_tuple(cfg.input_dim), as_tuple(cfg.output_dim)
        return {
            "a": ParameterSpec(
                (*inputs, cfg.rank),
                (*as_tuple(cfg.input_axes), None),
                FanIn.default_config().instantiate(),
                cfg.dtype,
                fan_in_axes=tuple(range(len(inputs))),
            ),
            "b": ParameterSpec(
                (cfg.rank, *outputs), (None, *as_tuple(cfg.output_axes)), zeros, cfg.dtype
            ),
        }

    @no_context
    def parameter_specs(self) -> ParameterSpecs:
        specs = super().parameter_specs()
        frozen = map_specs(lambda spec: dataclasses.replace(spec, trainable=False), specs["inner"])
        return {**specs, "inner": frozen}

    def weight(self) -> jax.Array:
        own = {name: self.param(name) for name in self.own_parameters()}
        return self.merged(self.inner.weight(), own, None)

    def bias(self) -> jax.Array | None:
        return self.inner.bias()

    @no_context
    def merged(self, weight: jax.Array, own: Tree, index: int | None) -> jax.Array:
        """Returns the weight with which `inner` computes what this adapter does.

        Args:
            weight: of `inner`.
            own: this adapter's own parameters.
            index: which adapter, where there are several.
        """
        raise NotImplementedError(type(self))

    @no_context
    def unmerged(self, merged: jax.Array, own: Tree, index: int | None) -> jax.Array:
        """Returns the weight of which `merged` made this one."""
        raise NotImplementedError(type(self))


def low_rank(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """(x A) B: [..., *input_dim] -> [..., *output_dim], in the dtype of x."""
    low = jnp.tensordot(x, a.astype(x.dtype), axes=a.ndim - 1)
    return jnp.tensordot(low, b.astype(x.dtype), axes=1)


def low_rank_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """A B: [*input_dim, *output_dim] float32."""
    return jnp.tensordot(a, b, axes=1, precision="float32", preferred_element_type=jnp.float32)
