"""Several LoRAs in one batch."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import ParameterSpec, no_context
from axlearn_core.module.context import Tree
from axlearn_layers.adapter import Adapter, low_rank, low_rank_product
from axlearn_layers.flops import flops_per_token


class MultiLoRA(Adapter):
    """y_r = inner(x_r) + alpha / rank * (x_r A_i) B_i, with row r's own adapter i = ids[r].

    A is [adapters, *input_dim, rank] and B [adapters, rank, *output_dim]. The model provides ids,
    [batch] int, under the name "adapter_ids" (`Module.provide`); -1 is no adapter, and so are
    all rows if nothing is provided. An id that is too high gives NaN. Training changes the
    adapters that the batch uses.

    Costs what one LoRA costs, and a copy of each row's A and B: batch * rank * (inputs + outputs)
    numbers (the gathered products of arXiv:2310.18547, without their kernel).
    """

    class Config(Adapter.Config):
        num_adapters: int = REQUIRED

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        if self.config.num_adapters < 1:
            raise ConfigError(f"num_adapters (={self.config.num_adapters}) must be at least 1")

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        count = self.config.num_adapters
        return {
            name: spec.stacked(count, "adapters")
            for name, spec in self.low_rank_parameters().items()
        }

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Of the adapters, each token passes one."""
        one = sum(2.0 * math.prod(spec.shape) for spec in self.low_rank_parameters().values())
        return flops_per_token(self.inner, seq_length) + one

    def forward(self, x: jax.Array) -> jax.Array:
        y = self.inner.forward(x)
        ids: jax.Array | None = self.provided("adapter_ids")
        if ids is None:
            return y
        if ids.shape != x.shape[:1]:
            raise ValueError(
                f"{self.path} got adapter_ids of shape {ids.shape} for rows of shape {x.shape}; "
                f"each row of the batch has one, so they must be {x.shape[:1]}"
            )
        a, b = (
            jnp.take(self.param(name), jnp.maximum(ids, 0), axis=0, mode="fill", fill_value=jnp.nan)
            for name in ("a", "b")
        )
        change = self.scale * jax.vmap(low_rank)(x, a, b)
        used = (ids >= 0).reshape(-1, *[1] * (y.ndim - 1))
        return y + jnp.where(used, change, 0)

    @no_context
    def merged(self, weight: jax.Array, own: Tree, index: int | None) -> jax.Array:
        return weight + self._change(own, index)

    @no_context
    def unmerged(self, merged: jax.Array, own: Tree, index: int | None) -> jax.Array:
        """Exact up to the rounding of a sum."""
        return merged - self._change(own, index)

    def _change(self, own: Tree, index: int | None) -> jax.Array:
        count = self.config.num_adapters
        if index is None or not 0 <= index < count:
            raise ValueError(
                f"{self.path} holds {count} adapters and no one weight: say which is meant by "
                f"its index, from 0 to {count - 1}, as in merge_adapters(..., index=0); "
                f"got {index}"
            )
        return self.scale * low_rank_product(own["a"][index], own["b"][index])
