"""The fast formulation of attention in plain JAX: masked blocks are skipped, weights recomputed.

Query blocks look only at the range of keys that the mask, asked before anything runs, does not
rule out: half of the work of causal attention, less of a window's. Queries of one group are
folded into the rows of one matrix product. Only query, key and value are kept for the backward
pass; scores and weights are made again, which costs less than storing them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.kernels.attention import AttentionInputs, AttentionSpec
from axlearn_core.kernels.masks import BlockKind, Mask
from axlearn_core.kernels.scores import grouped_bias, masked_softmax

# Rows and columns of a block. Measured on CPUs: smaller ones skip more and multiply more slowly.
_BLOCK = 128
# Every query block is a few operations of the program; more would only make it compile longer.
_MAX_QUERY_BLOCKS = 16


class BlockedAttention:
    """Any mask on any platform, for queries and keys whose positions are 0, 1, 2, ..."""

    priority = 10

    def supports(self, spec: AttentionSpec) -> str | None:
        if not spec.positions_are_arange:
            return "positions are known only when running, so no block can be skipped"
        return None

    def __call__(self, spec: AttentionSpec, inputs: AttentionInputs) -> jax.Array:
        query = _fold(spec, inputs.query * spec.scale)
        key = inputs.key.transpose(0, 2, 3, 1)  # [batch, kv, head_dim, key]
        value = inputs.value.transpose(0, 2, 1, 3)  # [batch, kv, key, value_dim]

        @jax.checkpoint
        def core(
            query: jax.Array,
            key: jax.Array,
            value: jax.Array,
            query_segments: jax.Array | None,
            key_segments: jax.Array | None,
            bias_parameters: jax.Array | None,
            sinks: jax.Array | None,
        ) -> jax.Array:
            outputs = []
            for block in query_blocks(spec.mask, spec.query_length, spec.key_length):
                rows, columns = _slice(block.queries), _slice(block.keys)
                places = jnp.arange(rows.start, rows.stop), jnp.arange(columns.start, columns.stop)
                allowed = None
                if block.kind is not BlockKind.FULL:
                    allowed = spec.mask.evaluate(
                        *places,
                        None if query_segments is None else query_segments[:, rows],
                        None if key_segments is None else key_segments[:, columns],
                    )
                    if allowed.ndim == 3:
                        allowed = allowed[:, None, None]  # every head alike
                outputs.append(
                    _block(
                        spec,
                        query[:, :, :, rows],
                        key[..., columns],
                        value[:, :, columns],
                        allowed,
                        grouped_bias(spec, *places, bias_parameters),
                        sinks,
                    )
                )
            return _unfold(spec, jnp.concatenate(outputs, axis=3))

        output: jax.Array = core(
            query,
            key,
            value,
            inputs.query_segments,
            inputs.key_segments,
            inputs.bias_parameters,
            inputs.sinks,
        )
        return output


class QueryBlock(NamedTuple):
    """Some queries, the keys they need to look at, and whether the mask says more than that."""

    queries: range
    keys: range
    kind: BlockKind


def query_blocks(mask: Mask, query_length: int, key_length: int) -> Iterator[QueryBlock]:
    """Cuts queries into blocks and finds for each the shortest range of keys that holds its own.

    A block that may attend to nothing gets one block of keys all the same, of kind EMPTY.
    """
    size = max(_BLOCK, -(-query_length // _MAX_QUERY_BLOCKS))
    for start in range(0, query_length, size):
        queries = range(start, min(start + size, query_length))
        kinds = [(keys, mask.block(queries, keys)) for keys in _chunks(key_length, _BLOCK)]
        needed = [keys for keys, kind in kinds if kind is not BlockKind.EMPTY]
        needed = needed or [kinds[0][0]]
        keys = range(needed[0].start, needed[-1].stop)
        yield QueryBlock(queries, keys, mask.block(queries, keys))


def _chunks(length: int, size: int) -> Iterator[range]:
    for start in range(0, length, size):
        yield range(start, min(start + size, length))


def _slice(positions: range) -> slice:
    return slice(positions.start, positions.stop)


def _block(
    spec: AttentionSpec,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    allowed: jax.Array | None,
    bias: jax.Array | None,
    sinks: jax.Array | None,
) -> jax.Array:
    """Attends from one block of queries, [batch, kv, group, query, head_dim], to its keys."""
    batch, kv, group, queries, head_dim = query.shape
    keys = key.shape[-1]
    scores = jnp.matmul(
        query.reshape(batch, kv, group * queries, head_dim), key, preferred_element_type=jnp.float32
    )
    scores = scores.reshape(batch, kv, group, queries, keys)
    weights = masked_softmax(spec, scores, allowed, bias, sinks).astype(value.dtype)
    output = jnp.matmul(weights.reshape(batch, kv, group * queries, keys), value)
    return output.reshape(batch, kv, group, queries, spec.value_dim)


def _fold(spec: AttentionSpec, query: jax.Array) -> jax.Array:
    """[batch, query, query_heads, head_dim] -> [batch, kv, group, query, head_dim]."""
    grouped = (spec.batch, spec.query_length, spec.kv_heads, spec.group, spec.head_dim)
    return query.reshape(grouped).transpose(0, 2, 3, 1, 4)


def _unfold(spec: AttentionSpec, output: jax.Array) -> jax.Array:
    """[batch, kv, group, query, value_dim] -> [batch, query, query_heads, value_dim]."""
    flat = (spec.batch, spec.query_length, spec.query_heads, spec.value_dim)
    return output.transpose(0, 3, 1, 2, 4).reshape(flat)
