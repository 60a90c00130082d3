"""What the kernels of Triton attention share: blocks, their scores, and where arrays' parts lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from axlearn_core.kernels import AttentionSpec, BlockKind, Mask, full

FORBIDDEN = -1e30  # far below any score, yet finite: no difference of two is NaN


class Arrays(NamedTuple):
    query: jax.Array  # [batch, query, query_heads, head_dim]
    key: jax.Array  # [batch, key, kv_heads, head_dim]
    value: jax.Array  # [batch, key, kv_heads, value_dim]
    query_segments: jax.Array | None  # [batch, query] int
    key_segments: jax.Array | None  # [batch, key] int
    sinks: jax.Array | None  # [query_heads] float32


class Scores(NamedTuple):
    values: jax.Array  # [rows, columns] float32; what is forbidden is far below the rest
    allowed: jax.Array | None  # None is everything
    slope: jax.Array | float  # by how much a score changes with the product that it is made of

    def masked(self, weights: jax.Array) -> jax.Array:
        return weights if self.allowed is None else jnp.where(self.allowed, weights, 0.0)


def block_scores(
    spec: AttentionSpec, ref: Any, query: jax.Array, key: jax.Array, row: Any, column: Any
) -> Scores:
    """Returns the scores of some queries, from `row` on, and some keys, from `column` on."""
    rows, columns = block_sizes(spec)
    values, allowed = dot(query, key.T) * spec.scale, None
    slope: jax.Array | float = 1.0
    if spec.logit_cap is not None:
        capped = jnp.tanh(values / spec.logit_cap)
        values, slope = spec.logit_cap * capped, 1 - capped**2
    if spec.mask != full():
        segments = (None, None)
        if ref.query_segments is not None:
            segments = (
                ref.query_segments[pl.ds(row, rows)],
                ref.key_segments[pl.ds(column, columns)],
            )
        places = row + jnp.arange(rows), column + jnp.arange(columns)
        allowed = spec.mask.evaluate(*places, *segments)
        values = jnp.where(allowed, values, FORBIDDEN)
    return Scores(values, allowed, slope)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


def block_sizes(spec: AttentionSpec) -> tuple[int, int]:
    """Returns how many queries and keys a block has: of registers, wide heads leave less."""
    largest = 64 if max(spec.head_dim, spec.value_dim) <= 128 else 32
    sizes = [size for size in (64, 32, 16) if size <= largest]
    rows, columns = (
        next(size for size in sizes if length % size == 0)
        for length in (spec.query_length, spec.key_length)
    )
    return rows, columns


def block_ranges(
    spec: AttentionSpec, arrays: Arrays, *, of_queries: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns the first key block that each query block needs, and the one after the last.

    Each [batch, query blocks] int32; with `of_queries=False` the query blocks of each key block.
    """
    rows, columns = block_sizes(spec)
    needed = jnp.asarray(_needed(spec.mask, spec.query_length, spec.key_length, rows, columns))[
        None
    ]
    if arrays.query_segments is not None and arrays.key_segments is not None:
        query = arrays.query_segments.reshape(spec.batch, -1, 1, rows)
        key = arrays.key_segments.reshape(spec.batch, 1, -1, columns)
        needed &= (query.min(-1) <= key.max(-1)) & (key.min(-1) <= query.max(-1))
    if not of_queries:
        needed = needed.swapaxes(1, 2)
    first = jnp.argmax(needed, axis=-1)
    last = needed.shape[-1] - jnp.argmax(needed[..., ::-1], axis=-1)
    last = jnp.where(needed.any(axis=-1), last, first)
    shape = (spec.batch, needed.shape[1])
    return (
        jnp.broadcast_to(first, shape).astype(jnp.int32),
        jnp.broadcast_to(last, shape).astype(jnp.int32),
    )


@lru_cache(maxsize=64)
def _needed(
    mask: Mask, query_length: int, key_length: int, rows: int, columns: int
) -> np.ndarray[Any, Any]:
    """Returns booleans [query blocks, key blocks]: what the mask does not rule out."""
    return np.array(
        [
            [
                mask.block(range(i, i + rows), range(j, j + columns)) is not BlockKind.EMPTY
                for j in range(0, key_length, columns)
            ]
            for i in range(0, query_length, rows)
        ]
    )


# Where the arrays' parts lie, by place in the grid: batch, head, block.

Placed = tuple[jax.Array | None, pl.BlockSpec]
SCALAR = pl.BlockSpec((None, None), lambda b, h, i: (b, i))


def ranges_by_rows(spec: AttentionSpec, arrays: Arrays) -> dict[str, Placed]:
    first, last = block_ranges(spec, arrays, of_queries=True)
    return {"first": (first, SCALAR), "last": (last, SCALAR)}


def arrays_by_rows(spec: AttentionSpec, arrays: Arrays) -> dict[str, Placed]:
    """A block of queries of one head, and all keys and values that it may read."""

    def whole(size: int) -> pl.BlockSpec:
        group = spec.group
        return pl.BlockSpec(
            (None, spec.key_length, None, size), lambda b, h, i: (b, 0, h // group, 0)
        )

    return {
        "query": (arrays.query, vectors_by_rows(block_sizes(spec)[0], arrays.query.shape)),
        "key": (arrays.key, whole(spec.head_dim)),
        "value": (arrays.value, whole(spec.value_dim)),
        "sinks": (arrays.sinks, pl.BlockSpec((None,), lambda b, h, i: (h,))),
        **segment_rows(arrays),
    }


def segment_rows(arrays: Arrays) -> dict[str, Placed]:
    def row(x: jax.Array | None) -> Placed:
        return x, pl.BlockSpec((None, 0 if x is None else x.shape[1]), lambda b, h, i: (b, 0))

    return {
        "query_segments": row(arrays.query_segments),
        "key_segments": row(arrays.key_segments),
    }


def vectors_by_rows(rows: int, shape: tuple[int, ...]) -> pl.BlockSpec:
    return pl.BlockSpec((None, rows, None, shape[-1]), lambda b, h, i: (b, i, h, 0))


def numbers_by_rows(rows: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, None, rows), lambda b, h, i: (b, h, i))


def call(
    kernel: Callable[[Any], None],
    *,
    name: str,
    grid: tuple[int, ...],
    inputs: Mapping[str, Placed],
    outputs: Mapping[str, tuple[jax.ShapeDtypeStruct, pl.BlockSpec]],
    interpret: bool,
) -> list[jax.Array]:
    """Calls `kernel` with all references by name, None for arrays that are None."""
    present = {name: placed for name, placed in inputs.items() if placed[0] is not None}

    def by_name(*refs: Any) -> None:
        named = dict(zip([*present, *outputs], refs, strict=True))
        kernel(SimpleNamespace(**{**dict.fromkeys(inputs), **named}))

    results: list[jax.Array] = pl.pallas_call(
        by_name,
        grid=grid,
        in_specs=[place for _, place in present.values()],
        out_specs=[place for _, place in outputs.values()],
        out_shape=[shape for shape, _ in outputs.values()],
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name=name,
    )(*(array for array, _ in present.values()))
    return results
