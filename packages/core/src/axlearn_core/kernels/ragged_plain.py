"""Ragged matmul in one expression: the formula, and XLA's own operation."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.kernels.ragged import RaggedMatmulInputs, RaggedMatmulSpec


class ReferenceRaggedMatmul:
    """y_r = sum_g [row r is of group g] x_r W_g; computes, and keeps, every row for every group."""

    priority = 0

    def supports(self, spec: RaggedMatmulSpec) -> str | None:
        return None

    def __call__(self, spec: RaggedMatmulSpec, inputs: RaggedMatmulInputs) -> jax.Array:
        places = jnp.arange(spec.rows)[:, None]
        stops = jnp.cumsum(inputs.group_sizes)
        member = (places >= stops - inputs.group_sizes) & (places < stops)  # [rows, groups]
        products = jnp.einsum(
            "ri,gio->rgo", inputs.rows, inputs.weights, preferred_element_type=_accumulator(spec)
        )
        return jnp.where(member[..., None], products, 0).sum(axis=1).astype(spec.dtype)


class XLARaggedMatmul:
    """`jax.lax.ragged_dot`, for which compilers for GPUs and TPUs have grouped products."""

    priority = 10

    def supports(self, spec: RaggedMatmulSpec) -> str | None:
        if spec.platform == "cpu":
            return "a CPU's ragged_dot computes every row for every group"
        return None

    def __call__(self, spec: RaggedMatmulSpec, inputs: RaggedMatmulInputs) -> jax.Array:
        output = jax.lax.ragged_dot(*inputs, preferred_element_type=_accumulator(spec))
        return output.astype(spec.dtype)


def _accumulator(spec: RaggedMatmulSpec) -> jnp.dtype:
    """Returns the dtype of sums: float32, or the operands' where that is wider."""
    return jnp.promote_types(spec.dtype, jnp.float32)
