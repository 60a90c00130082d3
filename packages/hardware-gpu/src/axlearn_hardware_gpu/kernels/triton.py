"""Flash attention for any mask, packed documents and sinks: Pallas, compiled by Triton.

Scores are made block by block and never stored (arXiv:2205.14135; the backward pass as in
arXiv:2307.08691). Each block of queries visits the range of key blocks that holds what it may
attend to. The range comes from the mask, before anything runs, and from the documents in the row,
when it runs: blocks of two documents with no number between them in common are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from axlearn_core.kernels import AttentionInputs, AttentionSpec, BlockKind, Mask, full
from axlearn_core.parallel import current_platform

_FORBIDDEN = -1e30  # far below any score, yet finite: no difference of two is NaN
_SMALLEST = 16  # that the tensor cores multiply


class TritonAttention:
    """What the mask rules out in a whole block is not computed; the rest of it is masked."""

    priority = 90

    def supports(self, spec: AttentionSpec) -> str | None:
        if spec.platform != "gpu":
            return f"needs a gpu, this is {spec.platform}"
        if not spec.positions_are_arange:
            return "positions are known only when running, so no block can be skipped"
        if spec.bias is not None:
            return f"adds no bias to the scores, and there is {spec.bias}"
        for name in ("head_dim", "value_dim"):
            size = getattr(spec, name)
            if size not in (16, 32, 64, 128, 256):
                return f"{name} (={size}) must be a power of 2 from 16 to 256"
        for name in ("query_length", "key_length"):
            if getattr(spec, name) % _SMALLEST:
                return f"{name} (={getattr(spec, name)}) must be a multiple of {_SMALLEST}"
        if spec.dtype not in ("bfloat16", "float16", "float32"):
            return f"multiplies bfloat16, float16 or float32, not {spec.dtype}"
        return None

    def __call__(self, spec: AttentionSpec, inputs: AttentionInputs) -> jax.Array:
        segments: Any = (None, None)
        if spec.mask.needs_segments:
            segments = inputs.query_segments, inputs.key_segments
        sinks = None if inputs.sinks is None else inputs.sinks.astype(jnp.float32)
        arrays = _Arrays(*inputs[:3], *segments, sinks)
        output: jax.Array = _attend(arrays, spec)
        return output


class _Arrays(NamedTuple):
    query: jax.Array  # [batch, query, query_heads, head_dim]
    key: jax.Array  # [batch, key, kv_heads, head_dim]
    value: jax.Array  # [batch, key, kv_heads, value_dim]
    query_segments: jax.Array | None  # [batch, query] int
    key_segments: jax.Array | None  # [batch, key] int
    sinks: jax.Array | None  # [query_heads] float32


class _Kept(NamedTuple):
    arrays: _Arrays
    output: jax.Array
    log_total: jax.Array  # [batch, query_heads, query] float32: log of a row's summed exponentials


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _attend(arrays: _Arrays, spec: AttentionSpec) -> jax.Array:
    return _forward(arrays, spec)[0]


def _forward(arrays: _Arrays, spec: AttentionSpec) -> tuple[jax.Array, _Kept]:
    rows, columns = _blocks(spec)

    def kernel(ref: Any) -> None:
        start, query = pl.program_id(2) * rows, ref.query[...]

        def visit(index: jax.Array, carry: Any) -> Any:
            highest, total, sums = carry
            here = pl.ds(index * columns, columns)
            value = ref.value[here, :]
            scores = _scores(spec, ref, query, ref.key[here, :], start, index * columns)
            new = jnp.maximum(highest, scores.values.max(axis=1))
            weights = scores.masked(jnp.exp(scores.values - new[:, None]))
            shrink = jnp.exp(highest - new)
            sums = sums * shrink[:, None] + _dot(weights.astype(value.dtype), value)
            return new, total * shrink + weights.sum(axis=1), sums

        carry = (jnp.full(rows, _FORBIDDEN), jnp.zeros(rows), jnp.zeros((rows, spec.value_dim)))
        if ref.sinks is not None:  # as if a key with this score and a value of zeros had been seen
            carry = (jnp.zeros(rows) + ref.sinks[...], jnp.ones(rows), carry[2])
        highest, total, sums = jax.lax.fori_loop(ref.first[...], ref.last[...], visit, carry)
        total = jnp.where(total == 0, 1.0, total)  # of a query that may attend to nothing
        ref.output[...] = (sums / total[:, None]).astype(spec.dtype)
        ref.log_total[...] = highest + jnp.log(total)

    shape = (spec.batch, spec.query_length, spec.query_heads, spec.value_dim)
    output, log_total = _call(
        kernel,
        grid=(spec.batch, spec.query_heads, spec.query_length // rows),
        inputs={**_ranges_by_rows(spec, arrays), **_by_rows(spec, arrays)},
        outputs={
            "output": (jax.ShapeDtypeStruct(shape, spec.dtype), _vectors_by_rows(rows, shape)),
            "log_total": (_numbers(spec), _numbers_by_rows(rows)),
        },
        interpret=_interpret(spec),
    )
    return output, _Kept(arrays, output, log_total)


def _backward(spec: AttentionSpec, kept: _Kept, gradient: jax.Array) -> tuple[_Arrays]:
    arrays, output, log_total = kept
    wide = gradient.astype(jnp.float32) * output.astype(jnp.float32)
    mean = wide.sum(axis=-1).swapaxes(1, 2)  # [batch, query_heads, query], weights @ their gradient
    sinks = None
    if arrays.sinks is not None:
        weights = jnp.exp(arrays.sinks[:, None] - log_total)
        sinks = -(weights * mean).sum(axis=(0, 2))
    query = _query_gradient(spec, arrays, gradient, log_total, mean)
    key, value = _key_gradients(spec, arrays, gradient, log_total, mean)
    return (_Arrays(query, key, value, None, None, sinks),)


_attend.defvjp(_forward, _backward)


def _query_gradient(
    spec: AttentionSpec,
    arrays: _Arrays,
    gradient: jax.Array,
    log_total: jax.Array,
    mean: jax.Array,
) -> jax.Array:
    rows, columns = _blocks(spec)

    def kernel(ref: Any) -> None:
        start, query, gradient = pl.program_id(2) * rows, ref.query[...], ref.gradient[...]
        log_total, mean = ref.log_total[...][:, None], ref.mean[...][:, None]

        def visit(index: jax.Array, sums: jax.Array) -> jax.Array:
            here = pl.ds(index * columns, columns)
            key = ref.key[here, :]
            scores = _scores(spec, ref, query, key, start, index * columns)
            weights = scores.masked(jnp.exp(scores.values - log_total))
            change = weights * (_dot(gradient, ref.value[here, :].T) - mean) * scores.slope
            return sums + _dot(change.astype(key.dtype), key)

        sums = jnp.zeros((rows, spec.head_dim))
        sums = jax.lax.fori_loop(ref.first[...], ref.last[...], visit, sums)
        ref.result[...] = (sums * spec.scale).astype(spec.dtype)

    shape = arrays.query.shape
    (result,) = _call(
        kernel,
        grid=(spec.batch, spec.query_heads, spec.query_length // rows),
        inputs={
            **_ranges_by_rows(spec, arrays),
            **_by_rows(spec, arrays),
            "gradient": (gradient, _vectors_by_rows(rows, gradient.shape)),
            "log_total": (log_total, _numbers_by_rows(rows)),
            "mean": (mean, _numbers_by_rows(rows)),
        },
        outputs={
            "result": (jax.ShapeDtypeStruct(shape, spec.dtype), _vectors_by_rows(rows, shape))
        },
        interpret=_interpret(spec),
    )
    return result


def _key_gradients(
    spec: AttentionSpec,
    arrays: _Arrays,
    gradient: jax.Array,
    log_total: jax.Array,
    mean: jax.Array,
) -> list[jax.Array]:
    rows, columns = _blocks(spec)

    def kernel(ref: Any) -> None:
        start, key, value = pl.program_id(2) * columns, ref.key[...], ref.value[...]

        def visit(member: jax.Array, index: jax.Array, sums: Any) -> Any:
            here = pl.ds(index * rows, rows)
            query, gradient = ref.query[here, member, :], ref.gradient[here, member, :]
            scores = _scores(spec, ref, query, key, index * rows, start)
            log_total, mean = (x[member, here][:, None] for x in (ref.log_total, ref.mean))
            weights = scores.masked(jnp.exp(scores.values - log_total))
            change = weights * (_dot(gradient, value.T) - mean) * scores.slope
            of_key, of_value = sums
            return (
                of_key + _dot(change.astype(query.dtype).T, query),
                of_value + _dot(weights.astype(gradient.dtype).T, gradient),
            )

        def of_member(member: jax.Array, sums: Any) -> Any:
            return jax.lax.fori_loop(ref.first[...], ref.last[...], partial(visit, member), sums)

        sums = jnp.zeros((columns, spec.head_dim)), jnp.zeros((columns, spec.value_dim))
        of_key, of_value = jax.lax.fori_loop(0, spec.group, of_member, sums)
        ref.of_key[...] = (of_key * spec.scale).astype(spec.dtype)
        ref.of_value[...] = of_value.astype(spec.dtype)

    def grouped(x: jax.Array, axis: int) -> jax.Array:
        """[..., query_heads, ...] -> [..., kv_heads, group, ...]."""
        return x.reshape(*x.shape[:axis], spec.kv_heads, spec.group, *x.shape[axis + 1 :])

    def vectors(size: int) -> pl.BlockSpec:
        shape = (None, spec.query_length, None, spec.group, size)
        return pl.BlockSpec(shape, lambda b, n, i: (b, 0, n, 0, 0))

    def own(size: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, columns, None, size), lambda b, n, i: (b, i, n, 0))

    numbers = pl.BlockSpec(
        (None, None, spec.group, spec.query_length), lambda b, n, i: (b, n, 0, 0)
    )
    first, last = _ranges(spec, arrays, of_queries=False)
    return _call(
        kernel,
        grid=(spec.batch, spec.kv_heads, spec.key_length // columns),
        inputs={
            "first": (first, _SCALAR),
            "last": (last, _SCALAR),
            "query": (grouped(arrays.query, 2), vectors(spec.head_dim)),
            "key": (arrays.key, own(spec.head_dim)),
            "value": (arrays.value, own(spec.value_dim)),
            "gradient": (grouped(gradient, 2), vectors(spec.value_dim)),
            "log_total": (grouped(log_total, 1), numbers),
            "mean": (grouped(mean, 1), numbers),
            **_segments(arrays),
        },
        outputs={
            "of_key": (jax.ShapeDtypeStruct(arrays.key.shape, spec.dtype), own(spec.head_dim)),
            "of_value": (jax.ShapeDtypeStruct(arrays.value.shape, spec.dtype), own(spec.value_dim)),
        },
        interpret=_interpret(spec),
    )


# The parts that the three kernels share.


class _Scores(NamedTuple):
    values: jax.Array  # [rows, columns] float32; what is forbidden is far below the rest
    allowed: jax.Array | None  # None is everything
    slope: jax.Array | float  # by how much a score changes with the product that it is made of

    def masked(self, weights: jax.Array) -> jax.Array:
        return weights if self.allowed is None else jnp.where(self.allowed, weights, 0.0)


def _scores(
    spec: AttentionSpec, ref: Any, query: jax.Array, key: jax.Array, row: Any, column: Any
) -> _Scores:
    """Returns the scores of some queries, from `row` on, and some keys, from `column` on."""
    rows, columns = _blocks(spec)
    values, slope, allowed = _dot(query, key.T) * spec.scale, 1.0, None
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
        values = jnp.where(allowed, values, _FORBIDDEN)
    return _Scores(values, allowed, slope)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


def _blocks(spec: AttentionSpec) -> tuple[int, int]:
    """Returns how many queries and keys a block has: of registers, wide heads leave less."""
    largest = 64 if max(spec.head_dim, spec.value_dim) <= 128 else 32
    sizes = [size for size in (64, 32, 16) if size <= largest]
    rows, columns = (
        next(size for size in sizes if length % size == 0)
        for length in (spec.query_length, spec.key_length)
    )
    return rows, columns


def _ranges(
    spec: AttentionSpec, arrays: _Arrays, *, of_queries: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns the first key block that each query block needs, and the one after the last.

    Each [batch, query blocks] int32; with `of_queries=False` the query blocks of each key block.
    """
    rows, columns = _blocks(spec)
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

_Placed = tuple[jax.Array | None, pl.BlockSpec]
_SCALAR = pl.BlockSpec((None, None), lambda b, h, i: (b, i))


def _ranges_by_rows(spec: AttentionSpec, arrays: _Arrays) -> dict[str, _Placed]:
    first, last = _ranges(spec, arrays, of_queries=True)
    return {"first": (first, _SCALAR), "last": (last, _SCALAR)}


def _by_rows(spec: AttentionSpec, arrays: _Arrays) -> dict[str, _Placed]:
    """A block of queries of one head, and all keys and values that it may read."""

    def whole(size: int) -> pl.BlockSpec:
        group = spec.group
        return pl.BlockSpec(
            (None, spec.key_length, None, size), lambda b, h, i: (b, 0, h // group, 0)
        )

    return {
        "query": (arrays.query, _vectors_by_rows(_blocks(spec)[0], arrays.query.shape)),
        "key": (arrays.key, whole(spec.head_dim)),
        "value": (arrays.value, whole(spec.value_dim)),
        "sinks": (arrays.sinks, pl.BlockSpec((None,), lambda b, h, i: (h,))),
        **_segments(arrays),
    }


def _segments(arrays: _Arrays) -> dict[str, _Placed]:
    def row(x: jax.Array | None) -> _Placed:
        return x, pl.BlockSpec((None, 0 if x is None else x.shape[1]), lambda b, h, i: (b, 0))

    return {
        "query_segments": row(arrays.query_segments),
        "key_segments": row(arrays.key_segments),
    }


def _vectors_by_rows(rows: int, shape: tuple[int, ...]) -> pl.BlockSpec:
    return pl.BlockSpec((None, rows, None, shape[-1]), lambda b, h, i: (b, i, h, 0))


def _numbers_by_rows(rows: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, None, rows), lambda b, h, i: (b, h, i))


def _numbers(spec: AttentionSpec) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((spec.batch, spec.query_heads, spec.query_length), jnp.float32)


def _interpret(spec: AttentionSpec) -> bool:
    return current_platform() != spec.platform


def _call(
    kernel: Callable[[Any], None],
    *,
    grid: tuple[int, ...],
    inputs: Mapping[str, _Placed],
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
        name="axlearn_attention",
    )(*(array for array, _ in present.values()))
    return results
