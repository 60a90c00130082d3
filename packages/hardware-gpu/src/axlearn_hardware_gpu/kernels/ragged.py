"""Ragged matmul in blocks of one group's rows: Pallas, compiled by Triton.

XLA's own ragged_dot multiplies every row by every group's matrix on GPUs, all but one masked. Here
the rows are cut into blocks, and again where a group ends within one, so that each piece is of one
group; there are at most as many pieces as blocks and groups together. A piece reads its whole block
and writes its own rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from axlearn_core.kernels import RaggedMatmulInputs, RaggedMatmulSpec
from axlearn_core.parallel import current_platform

_ROWS = 64  # of a block
_SIZES = (128, 64, 32, 16)  # of the parts of the other dimensions: the largest that divides


class TritonRaggedMatmul:
    """Any groups; the work is that of the rows, and of a block more for each group."""

    priority = 100

    def supports(self, spec: RaggedMatmulSpec) -> str | None:
        if spec.dtype not in ("bfloat16", "float16", "float32"):
            return f"multiplies bfloat16, float16 or float32, not {spec.dtype}"
        if spec.rows % _ROWS or spec.rows == 0:
            return f"the number of rows (={spec.rows}) must be a multiple of {_ROWS}"
        for name in ("input_dim", "output_dim"):
            if getattr(spec, name) % _SIZES[-1]:
                return f"{name} (={getattr(spec, name)}) must be a multiple of {_SIZES[-1]}"
        return None

    def __call__(self, spec: RaggedMatmulSpec, inputs: RaggedMatmulInputs) -> jax.Array:
        output: jax.Array = _multiply(*inputs, current_platform() != spec.platform)
        return output

    def flops(self, spec: RaggedMatmulSpec, program: str) -> float:
        """Each program multiplies every row once, and again those of blocks in which groups end,
        which only the data tell."""
        return 2.0 * spec.rows * spec.input_dim * spec.output_dim


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _multiply(
    rows: jax.Array, weights: jax.Array, group_sizes: jax.Array, interpret: bool
) -> jax.Array:
    return _products(rows, weights, group_sizes, interpret)


def _forward(
    rows: jax.Array, weights: jax.Array, group_sizes: jax.Array, interpret: bool
) -> tuple[jax.Array, RaggedMatmulInputs]:
    inputs = RaggedMatmulInputs(rows, weights, group_sizes)
    return _products(*inputs, interpret), inputs


def _backward(
    interpret: bool, inputs: RaggedMatmulInputs, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    rows, weights, group_sizes = inputs
    of_rows = _products(gradient, weights, group_sizes, interpret, transposed=True)
    return of_rows, _outer_products(rows, gradient, group_sizes, interpret), None


_multiply.defvjp(_forward, _backward)


class _Pieces(NamedTuple):
    """Each [pieces] int32; those that are not needed have no rows."""

    block: jax.Array
    group: jax.Array
    start: jax.Array  # the first row
    stop: jax.Array  # the one after the last


def _pieces(group_sizes: jax.Array, num_rows: int) -> _Pieces:
    """Cuts rows where a block begins and where a group ends."""
    ends = jnp.minimum(jnp.cumsum(group_sizes), num_rows)
    cuts = jnp.concatenate([jnp.arange(0, num_rows, _ROWS), ends])
    start = jnp.sort(cuts)
    stop = jnp.append(start[1:], num_rows)
    group = jnp.searchsorted(ends, start, side="right")  # that which ends after it
    beyond = group == len(group_sizes)  # rows of no group: a matrix of theirs would be zeros
    block = jnp.minimum(start // _ROWS, num_rows // _ROWS - 1)
    return _Pieces(
        *(x.astype(jnp.int32) for x in (block, jnp.where(beyond, -1, group), start, stop))
    )


def _products(
    rows: jax.Array,
    weights: jax.Array,
    group_sizes: jax.Array,
    interpret: bool,
    *,
    transposed: bool = False,
) -> jax.Array:
    """Returns rows[r] @ weights[g], or rows[r] @ weights[g]^T; [rows, columns]."""
    (num_rows, size), columns = rows.shape, weights.shape[1 if transposed else 2]
    step, width = _part(size), _part(columns)
    pieces = _pieces(group_sizes, num_rows)

    def kernel(
        block: Any, group: Any, start: Any, stop: Any, row: Any, weight: Any, output: Any
    ) -> None:
        here = pl.ds(block[...] * _ROWS, _ROWS)
        right = pl.ds(pl.program_id(1) * width, width)
        matrix = jnp.maximum(group[...], 0)

        def add(index: jax.Array, total: jax.Array) -> jax.Array:
            inner = pl.ds(index * step, step)
            own = weight[matrix, right, inner].T if transposed else weight[matrix, inner, right]
            return total + _dot(row[here, inner], own)

        needed = (group[...] >= 0) & (start[...] < stop[...])
        count = jnp.where(needed, jnp.int32(size // step), jnp.int32(0))
        total = jax.lax.fori_loop(jnp.int32(0), count, add, jnp.zeros((_ROWS, width)))
        places = block[...] * _ROWS + jnp.arange(_ROWS)
        own = ((places >= start[...]) & (places < stop[...]))[:, None]
        own = jnp.broadcast_to(own, total.shape)
        plgpu.store(output.at[here, right], total.astype(output.dtype), mask=own)

    result = jax.ShapeDtypeStruct((num_rows, columns), rows.dtype)
    output: jax.Array = pl.pallas_call(
        kernel,
        grid=(len(pieces.block), columns // width),
        in_specs=[pl.BlockSpec((None,), lambda i, j: (i,))] * 4 + [_whole(rows), _whole(weights)],
        out_specs=_whole(result),
        out_shape=result,
        compiler_params=_PARAMETERS,
        interpret=interpret,
        name="axlearn_ragged_matmul",
    )(*pieces, rows, weights)
    return output


def _outer_products(
    rows: jax.Array, gradient: jax.Array, group_sizes: jax.Array, interpret: bool
) -> jax.Array:
    """Sums rows[r]^T gradient[r] over each group; [groups, in, out]."""
    (num_rows, size), columns = rows.shape, gradient.shape[1]
    height, width = _part(size), _part(columns)
    stop = jnp.minimum(jnp.cumsum(group_sizes), num_rows).astype(jnp.int32)
    start = jnp.concatenate([jnp.zeros(1, jnp.int32), stop[:-1]])

    def kernel(start: Any, stop: Any, row: Any, gradient: Any, output: Any) -> None:
        upper = pl.ds(pl.program_id(1) * height, height)
        right = pl.ds(pl.program_id(2) * width, width)

        def add(index: jax.Array, total: jax.Array) -> jax.Array:
            here = pl.ds(index * _ROWS, _ROWS)
            places = index * _ROWS + jnp.arange(_ROWS)
            own = ((places >= start[...]) & (places < stop[...]))[:, None]
            mine = jnp.where(own, row[here, upper], 0)
            return total + _dot(mine.T, gradient[here, right])

        first = start[...] // _ROWS
        last = jnp.where(start[...] < stop[...], (stop[...] + _ROWS - 1) // _ROWS, first)
        total = jax.lax.fori_loop(first, last, add, jnp.zeros((height, width)))
        output[...] = total.astype(output.dtype)

    scalar = pl.BlockSpec((None,), lambda g, i, j: (g,))
    sums: jax.Array = pl.pallas_call(
        kernel,
        grid=(len(group_sizes), size // height, columns // width),
        in_specs=[scalar, scalar, _whole(rows), _whole(gradient)],
        out_specs=pl.BlockSpec((None, height, width), lambda g, i, j: (g, i, j)),
        out_shape=jax.ShapeDtypeStruct((len(group_sizes), size, columns), rows.dtype),
        compiler_params=_PARAMETERS,
        interpret=interpret,
        name="axlearn_ragged_outer",
    )(start, stop, rows, gradient)
    return sums


_PARAMETERS = plgpu.CompilerParams(num_warps=4, num_stages=3)


def _whole(x: jax.Array | jax.ShapeDtypeStruct) -> pl.BlockSpec:
    return pl.BlockSpec(x.shape, lambda *place: (0,) * x.ndim)


def _part(size: int) -> int:
    return next(part for part in _SIZES if size % part == 0)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32)
