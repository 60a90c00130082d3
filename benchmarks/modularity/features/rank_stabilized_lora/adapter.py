"""A low-rank adapter of any projection."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED
from axlearn_core.module import FanIn, ParameterSpec, ParameterSpecs, map_specs, no_context, zeros
from axlearn_layers import Projection


class RankStabilizedLoRA(Projection):
    """y = inner(x) + alpha / sqrt(rank) * (x A) B (rsLoRA, arXiv:2312.03732).

    B starts at 0, and what is inside is frozen.
    """

    class Config(Projection.Config):
        inner: Projection.Config = REQUIRED
        rank: int = 4
        alpha: float = 4.0

    def __init__(self, config: Projection.Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        shared = {
            "input_dim": cfg.input_dim,
            "output_dim": cfg.output_dim,
            "input_axes": cfg.input_axes,
            "output_axes": cfg.output_axes,
        }
        self.inner: Projection = self.add_child("inner", cfg.inner.set(**shared))

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        inputs, outputs = tuple_of(cfg.input_dim), tuple_of(cfg.output_dim)
        first = FanIn.default_config().instantiate()
        axes_in, axes_out = (*tuple_of(cfg.input_axes), None), (None, *tuple_of(cfg.output_axes))
        summed = tuple(range(len(inputs)))
        return {
            "a": ParameterSpec((*inputs, cfg.rank), axes_in, first, cfg.dtype, summed),
            "b": ParameterSpec((cfg.rank, *outputs), axes_out, zeros, cfg.dtype),
        }

    @no_context
    def parameter_specs(self) -> ParameterSpecs:
        specs = super().parameter_specs()
        frozen = map_specs(lambda spec: dataclasses.replace(spec, trainable=False), specs["inner"])
        return {**specs, "inner": frozen}

    def forward(self, x: jax.Array) -> jax.Array:
        return self.inner.forward(x) + jnp.tensordot(
            jnp.tensordot(x, self.param("a").astype(x.dtype), axes=self.param("a").ndim - 1),
            self.scaled_b().astype(x.dtype),
            axes=1,
        )

    def weight(self) -> jax.Array:
        return self.inner.weight() + jnp.tensordot(self.param("a"), self.scaled_b(), axes=1)

    def bias(self) -> jax.Array | None:
        return self.inner.bias()

    def scaled_b(self) -> jax.Array:
        return self.config.alpha / self.config.rank**0.5 * self.param("b")


def tuple_of(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
