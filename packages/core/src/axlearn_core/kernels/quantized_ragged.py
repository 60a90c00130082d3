"""Ragged matmul, in training, of operands that are rounded to eight bits each.

The rounded numbers are held in the operands' own dtype, which has room for all of them, and
multiplied by the kernels of `ragged_matmul`. So the numbers are those of units of eight bits, and
the speed is that of the dtype: for groups of rows no kernel of eight bits is at hand that trains.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from axlearn_core.errors import UserError
from axlearn_core.kernels.quantized import QuantizedFormat, Scaling
from axlearn_core.kernels.quantized_plain import rounded
from axlearn_core.kernels.ragged import RaggedMatmulInputs, ragged_matmul

_DTYPES = ("bfloat16", "float32", "float64")


def quantized_ragged_matmul(
    rows: jax.Array,
    weights: jax.Array,
    group_sizes: jax.Array,
    format: QuantizedFormat,
    *,
    implementation: str | None = None,
) -> jax.Array:
    """Computes `ragged_matmul` and its gradients from operands rounded to eight bits.

    Scales are as those of `quantized_matmul`, of each group by itself: one for each row and each
    column of its matrix. In the gradient by a matrix, which sums over its group's rows, there is
    one for each column of these rows.

    Args:
        rows: [rows, in], sorted by group, of bfloat16, float32 or float64.
        weights: [groups, in, out], of the rows' dtype.
        group_sizes: [groups] int.
        format: to what to round.
        implementation: a kernel of `ragged_matmul`, to force it.

    Returns:
        [rows, out]. Rows beyond the sum of all groups give zeros.

    Raises:
        UserError: if shapes do not fit, or the dtype has no room for the numbers.
    """
    if rows.dtype.name not in _DTYPES:
        raise UserError(
            f"quantized_ragged_matmul multiplies in the dtype of the rows, {rows.dtype.name}; it "
            f"must be one of {', '.join(_DTYPES)}"
        )
    return _matmul(rows, weights, group_sizes, format, implementation)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _matmul(
    rows: jax.Array,
    weights: jax.Array,
    group_sizes: jax.Array,
    format: QuantizedFormat,
    kernel: str | None,
) -> jax.Array:
    formats = (format.forward, format.forward)
    return _product(rows, weights, group_sizes, formats, format.scaling, kernel)


def _forward(
    rows: jax.Array,
    weights: jax.Array,
    group_sizes: jax.Array,
    format: QuantizedFormat,
    kernel: str | None,
) -> tuple[jax.Array, RaggedMatmulInputs]:
    inputs = RaggedMatmulInputs(rows, weights, group_sizes)
    return _matmul(*inputs, format, kernel), inputs


def _backward(
    format: QuantizedFormat, kernel: str | None, inputs: RaggedMatmulInputs, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    rows, weights, sizes = inputs
    if format.gradient is None:
        _, pull = jax.vjp(
            lambda rows, weights: ragged_matmul(rows, weights, sizes, implementation=kernel),
            rows,
            weights,
        )
        return (*pull(gradient), None)
    formats = (format.gradient, format.forward)
    transposed = jnp.swapaxes(weights, 1, 2)
    of_rows = _product(gradient, transposed, sizes, formats, format.scaling, kernel)
    formats = (format.forward, format.gradient)
    of_weights = _outer_product(rows, gradient, sizes, formats, format.scaling, kernel)
    return of_rows, of_weights, None


_matmul.defvjp(_forward, _backward)


def _product(
    rows: jax.Array,
    weights: jax.Array,
    sizes: jax.Array,
    formats: tuple[str, str],
    scaling: Scaling,
    kernel: str | None,
) -> jax.Array:
    """y_r = s_r t_g sum_k q_rk w_gk, of the numbers q and w and the scales s and t."""
    channel = scaling == "channel"
    q, s = rounded(rows, formats[0], (1,) if channel else None)
    w, t = rounded(weights, formats[1], (1,) if channel else (1, 2))
    sums = ragged_matmul(
        q.astype(rows.dtype), w.astype(rows.dtype), sizes, implementation=kernel
    ).astype(jnp.float32)
    return (sums * s * t[_groups(sizes, len(rows)), 0]).astype(rows.dtype)


def _outer_product(
    rows: jax.Array,
    gradient: jax.Array,
    sizes: jax.Array,
    formats: tuple[str, str],
    scaling: Scaling,
    kernel: str | None,
) -> jax.Array:
    """The gradient by matrix g: s_g t_g sum_r q_r^T h_r over its rows, [groups, in, out]."""
    groups = _groups(sizes, len(rows))
    inside = (jnp.arange(len(rows)) < sizes.sum())[:, None]

    def of_groups(x: jax.Array, format: str) -> tuple[jax.Array, jax.Array]:
        x = jnp.where(inside, x, 0)
        most = jax.ops.segment_max(jnp.abs(x), groups, len(sizes), indices_are_sorted=True)
        most = jnp.maximum(most, 0)  # of a group without rows
        if scaling == "tensor":
            most = jnp.broadcast_to(most.max(axis=1, keepdims=True), most.shape)
        q, _ = rounded(x, format, None, most=most[groups])
        _, scale = rounded(most, format, None, most=most)
        return q.astype(x.dtype), scale

    (q, s), (h, t) = of_groups(rows, formats[0]), of_groups(gradient, formats[1])
    zeros = jnp.zeros((len(sizes), rows.shape[1], gradient.shape[1]), rows.dtype)
    _, pull = jax.vjp(lambda w: ragged_matmul(q, w, sizes, implementation=kernel), zeros)
    sums: jax.Array = pull(h)[0]
    return (sums.astype(jnp.float32) * s[:, :, None] * t[:, None, :]).astype(rows.dtype)


def _groups(sizes: jax.Array, rows: int) -> jax.Array:
    """Returns the group of each row, [rows] int; of rows beyond all groups, the last."""
    stops = jnp.cumsum(sizes)
    group = jnp.searchsorted(stops, jnp.arange(rows), side="right")
    return jnp.minimum(group, len(sizes) - 1)
