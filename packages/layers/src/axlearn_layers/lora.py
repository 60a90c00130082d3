"""LoRA."""

from __future__ import annotations

import jax

from axlearn_core.module import ParameterSpec, no_context
from axlearn_core.module.context import Tree
from axlearn_layers.adapter import Adapter, low_rank, low_rank_product


class LoRA(Adapter):
    """y = inner(x) + alpha / rank * (x A) B (arXiv:2106.09685)."""

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        return self.low_rank_parameters()

    def forward(self, x: jax.Array) -> jax.Array:
        return self.inner.forward(x) + self.scale * low_rank(x, self.param("a"), self.param("b"))

    @no_context
    def merged(self, weight: jax.Array, own: Tree, index: int | None) -> jax.Array:
        return weight + self.scale * low_rank_product(own["a"], own["b"])

    @no_context
    def unmerged(self, merged: jax.Array, own: Tree, index: int | None) -> jax.Array:
        """Exact up to the rounding of a sum."""
        return merged - self.scale * low_rank_product(own["a"], own["b"])
