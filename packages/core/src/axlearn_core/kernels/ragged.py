"""The ragged matmul op: rows in consecutive groups, each multiplied by its group's matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.errors import UserError
from axlearn_core.kernels.selection import select
from axlearn_core.parallel import current_platform


@dataclass(frozen=True)
class RaggedMatmulSpec:
    """Everything static about one ragged matmul; how rows fall into groups is not."""

    rows: int
    groups: int
    input_dim: int
    output_dim: int
    dtype: str  # of rows and weights, such as "bfloat16"
    platform: str  # "cpu", "gpu" or "tpu"

    def __str__(self) -> str:
        sizes = f"{self.rows} rows, {self.groups} groups, {self.input_dim} to {self.output_dim}"
        return f"ragged_matmul({sizes}, {self.dtype}, {self.platform})"


class RaggedMatmulInputs(NamedTuple):
    """The arrays of one ragged matmul."""

    rows: jax.Array  # [rows, in], those of group 0 first, then those of group 1, ...
    weights: jax.Array  # [groups, in, out]
    group_sizes: jax.Array  # [groups] int32


def ragged_matmul(
    rows: jax.Array,
    weights: jax.Array,
    group_sizes: jax.Array,
    *,
    implementation: str | None = None,
) -> jax.Array:
    """Computes `rows[r] @ weights[g]`, where row r is of group g; sums are of float32 at least.

    Args:
        rows: [rows, in], sorted by group.
        weights: [groups, in, out], of the rows' dtype.
        group_sizes: [groups] int, how many rows each group has, any of them 0. Their sum must not
            exceed the number of rows.
        implementation: A kernel's name to force it; None is the first that supports the case.

    Returns:
        [rows, out]. Rows beyond the sum of all groups give zeros.

    Raises:
        UserError: if shapes do not fit, or no kernel (or not the forced one) supports the case.
    """
    _check(rows, weights, group_sizes)
    spec = RaggedMatmulSpec(
        rows=rows.shape[0],
        groups=weights.shape[0],
        input_dim=weights.shape[1],
        output_dim=weights.shape[2],
        dtype=rows.dtype.name,
        platform=current_platform(),
    )
    kernel = select("ragged_matmul", spec, implementation)
    inputs = RaggedMatmulInputs(rows, weights, group_sizes.astype(jnp.int32))
    output: jax.Array = kernel(spec, inputs)
    return output


def _check(rows: jax.Array, weights: jax.Array, group_sizes: jax.Array) -> None:
    got = f"rows {rows.shape}, weights {weights.shape}, group_sizes {group_sizes.shape}"
    if (rows.ndim, weights.ndim, group_sizes.ndim) != (2, 3, 1):
        raise UserError(
            f"ragged_matmul takes [rows, in], [groups, in, out] and [groups], got {got}"
        )
    if rows.shape[1] != weights.shape[1] or weights.shape[0] != group_sizes.shape[0]:
        raise UserError(
            "ragged_matmul: rows and weights must agree in their input dimension, weights and "
            f"group_sizes in the number of groups, got {got}"
        )
    if rows.dtype != weights.dtype:
        raise UserError(
            f"ragged_matmul: rows are {rows.dtype} and weights {weights.dtype}; "
            "cast the weights with weights.astype(rows.dtype)"
        )
