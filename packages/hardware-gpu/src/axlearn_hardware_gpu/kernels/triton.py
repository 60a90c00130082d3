"""Flash attention for any mask, packed documents and sinks: Pallas, compiled by Triton.

Scores are made block by block and never stored (arXiv:2205.14135; the backward pass as in
arXiv:2307.08691). Each block of queries visits the range of key blocks that holds what it may
attend to. The range comes from the mask, before anything runs, and from the documents in the row,
when it runs: blocks of two documents with no number between them in common are skipped.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from axlearn_core.kernels import AttentionInputs, AttentionSpec, attention_flops
from axlearn_core.parallel import current_platform
from axlearn_hardware_gpu.kernels.triton_blocks import (
    FORBIDDEN,
    SCALAR,
    Arrays,
    arrays_by_rows,
    block_ranges,
    block_scores,
    block_sizes,
    call,
    dot,
    numbers_by_rows,
    ranges_by_rows,
    segment_rows,
    vectors_by_rows,
)

_SMALLEST = 16  # that the tensor cores multiply
# The programs, with their products as wide as keys and as values: backward, scores are made again.
_FORWARD, _OF_QUERIES, _OF_KEYS = (
    f"axlearn_attention_{part}" for part in ("forward", "queries", "keys")
)
_PRODUCTS: Final = {_FORWARD: (1, 1), _OF_QUERIES: (2, 1), _OF_KEYS: (2, 2)}


class TritonAttention:
    """What the mask rules out in a whole block is not computed; the rest of it is masked."""

    priority = 90

    def supports(self, spec: AttentionSpec) -> str | None:
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
        segmented = spec.mask.needs_segments
        arrays = Arrays(
            inputs.query,
            inputs.key,
            inputs.value,
            inputs.query_segments if segmented else None,
            inputs.key_segments if segmented else None,
            None if inputs.sinks is None else inputs.sinks.astype(jnp.float32),
        )
        output: jax.Array = _attend(arrays, spec)
        return output

    def flops(self, spec: AttentionSpec, program: str) -> float:
        of_keys, of_values = next(
            products for name, products in _PRODUCTS.items() if name in program
        )
        block = block_sizes(spec)
        return attention_flops(spec, of_keys=of_keys, of_values=of_values, block=block)


class _Kept(NamedTuple):
    arrays: Arrays
    output: jax.Array
    log_total: jax.Array  # [batch, query_heads, query] float32: log of a row's summed exponentials


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _attend(arrays: Arrays, spec: AttentionSpec) -> jax.Array:
    return _forward(arrays, spec)[0]


def _forward(arrays: Arrays, spec: AttentionSpec) -> tuple[jax.Array, _Kept]:
    rows, columns = block_sizes(spec)

    def kernel(ref: Any) -> None:
        start, query = pl.program_id(2) * rows, ref.query[...]

        def visit(index: jax.Array, carry: Any) -> Any:
            highest, total, sums = carry
            here = pl.ds(index * columns, columns)
            value = ref.value[here, :]
            scores = block_scores(spec, ref, query, ref.key[here, :], start, index * columns)
            new = jnp.maximum(highest, scores.values.max(axis=1))
            weights = scores.masked(jnp.exp(scores.values - new[:, None]))
            shrink = jnp.exp(highest - new)
            sums = sums * shrink[:, None] + dot(weights.astype(value.dtype), value)
            return new, total * shrink + weights.sum(axis=1), sums

        carry = (jnp.full(rows, FORBIDDEN), jnp.zeros(rows), jnp.zeros((rows, spec.value_dim)))
        if ref.sinks is not None:  # as if a key with this score and a value of zeros had been seen
            carry = (jnp.zeros(rows) + ref.sinks[...], jnp.ones(rows), carry[2])
        highest, total, sums = jax.lax.fori_loop(ref.first[...], ref.last[...], visit, carry)
        total = jnp.where(total == 0, 1.0, total)  # of a query that may attend to nothing
        ref.output[...] = (sums / total[:, None]).astype(spec.dtype)
        ref.log_total[...] = highest + jnp.log(total)

    shape = (spec.batch, spec.query_length, spec.query_heads, spec.value_dim)
    output, log_total = call(
        kernel,
        name=_FORWARD,
        grid=(spec.batch, spec.query_heads, spec.query_length // rows),
        inputs={**ranges_by_rows(spec, arrays), **arrays_by_rows(spec, arrays)},
        outputs={
            "output": (jax.ShapeDtypeStruct(shape, spec.dtype), vectors_by_rows(rows, shape)),
            "log_total": (_numbers(spec), numbers_by_rows(rows)),
        },
        interpret=_interpret(spec),
    )
    return output, _Kept(arrays, output, log_total)


def _backward(spec: AttentionSpec, kept: _Kept, gradient: jax.Array) -> tuple[Arrays]:
    arrays, output, log_total = kept
    wide = gradient.astype(jnp.float32) * output.astype(jnp.float32)
    mean = wide.sum(axis=-1).swapaxes(1, 2)  # [batch, query_heads, query], weights @ their gradient
    sinks = None
    if arrays.sinks is not None:
        weights = jnp.exp(arrays.sinks[:, None] - log_total)
        sinks = -(weights * mean).sum(axis=(0, 2))
    query = _query_gradient(spec, arrays, gradient, log_total, mean)
    key, value = _key_gradients(spec, arrays, gradient, log_total, mean)
    return (Arrays(query, key, value, None, None, sinks),)


_attend.defvjp(_forward, _backward)


def _query_gradient(
    spec: AttentionSpec,
    arrays: Arrays,
    gradient: jax.Array,
    log_total: jax.Array,
    mean: jax.Array,
) -> jax.Array:
    rows, columns = block_sizes(spec)

    def kernel(ref: Any) -> None:
        start, query, gradient = pl.program_id(2) * rows, ref.query[...], ref.gradient[...]
        log_total, mean = ref.log_total[...][:, None], ref.mean[...][:, None]

        def visit(index: jax.Array, sums: jax.Array) -> jax.Array:
            here = pl.ds(index * columns, columns)
            key = ref.key[here, :]
            scores = block_scores(spec, ref, query, key, start, index * columns)
            weights = scores.masked(jnp.exp(scores.values - log_total))
            change = weights * (dot(gradient, ref.value[here, :].T) - mean) * scores.slope
            return sums + dot(change.astype(key.dtype), key)

        sums = jnp.zeros((rows, spec.head_dim))
        sums = jax.lax.fori_loop(ref.first[...], ref.last[...], visit, sums)
        ref.result[...] = (sums * spec.scale).astype(spec.dtype)

    shape = arrays.query.shape
    (result,) = call(
        kernel,
        name=_OF_QUERIES,
        grid=(spec.batch, spec.query_heads, spec.query_length // rows),
        inputs={
            **ranges_by_rows(spec, arrays),
            **arrays_by_rows(spec, arrays),
            "gradient": (gradient, vectors_by_rows(rows, gradient.shape)),
            "log_total": (log_total, numbers_by_rows(rows)),
            "mean": (mean, numbers_by_rows(rows)),
        },
        outputs={"result": (jax.ShapeDtypeStruct(shape, spec.dtype), vectors_by_rows(rows, shape))},
        interpret=_interpret(spec),
    )
    return result


def _key_gradients(
    spec: AttentionSpec,
    arrays: Arrays,
    gradient: jax.Array,
    log_total: jax.Array,
    mean: jax.Array,
) -> list[jax.Array]:
    rows, columns = block_sizes(spec)

    def kernel(ref: Any) -> None:
        start, key, value = pl.program_id(2) * columns, ref.key[...], ref.value[...]

        def visit(member: jax.Array, index: jax.Array, sums: Any) -> Any:
            here = pl.ds(index * rows, rows)
            query, gradient = ref.query[here, member, :], ref.gradient[here, member, :]
            scores = block_scores(spec, ref, query, key, index * rows, start)
            log_total, mean = (x[member, here][:, None] for x in (ref.log_total, ref.mean))
            weights = scores.masked(jnp.exp(scores.values - log_total))
            change = weights * (dot(gradient, value.T) - mean) * scores.slope
            of_key, of_value = sums
            return (
                of_key + dot(change.astype(query.dtype).T, query),
                of_value + dot(weights.astype(gradient.dtype).T, gradient),
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
    first, last = block_ranges(spec, arrays, of_queries=False)
    return call(
        kernel,
        name=_OF_KEYS,
        grid=(spec.batch, spec.kv_heads, spec.key_length // columns),
        inputs={
            "first": (first, SCALAR),
            "last": (last, SCALAR),
            "query": (grouped(arrays.query, 2), vectors(spec.head_dim)),
            "key": (arrays.key, own(spec.head_dim)),
            "value": (arrays.value, own(spec.value_dim)),
            "gradient": (grouped(gradient, 2), vectors(spec.value_dim)),
            "log_total": (grouped(log_total, 1), numbers),
            "mean": (grouped(mean, 1), numbers),
            **segment_rows(arrays),
        },
        outputs={
            "of_key": (jax.ShapeDtypeStruct(arrays.key.shape, spec.dtype), own(spec.head_dim)),
            "of_value": (jax.ShapeDtypeStruct(arrays.value.shape, spec.dtype), own(spec.value_dim)),
        },
        interpret=_interpret(spec),
    )


def _numbers(spec: AttentionSpec) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((spec.batch, spec.query_heads, spec.query_length), jnp.float32)


def _interpret(spec: AttentionSpec) -> bool:
    return current_platform() != spec.platform
