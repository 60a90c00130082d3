"""Attention as the formula says it: the implementation that every other one is held against."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.kernels.attention import AttentionInputs, AttentionSpec
from axlearn_core.kernels.scores import grouped_bias, masked_softmax


class ReferenceAttention:
    """Any mask, any positions, any platform; its scores take batch * heads * query * key floats."""

    priority = 0

    def supports(self, spec: AttentionSpec) -> str | None:
        return None

    def __call__(self, spec: AttentionSpec, inputs: AttentionInputs) -> jax.Array:
        query_positions, key_positions = inputs.query_positions, inputs.key_positions
        if query_positions is None:
            query_positions = jnp.arange(spec.query_length)
        if key_positions is None:
            key_positions = jnp.arange(spec.key_length)
        allowed = spec.mask.evaluate(
            query_positions, key_positions, inputs.query_segments, inputs.key_segments
        )
        shape = (spec.batch, spec.query_length, spec.key_length)
        allowed = jnp.broadcast_to(allowed, shape)[:, None, None]

        grouped = (spec.batch, spec.query_length, spec.kv_heads, spec.group, spec.head_dim)
        scores = jnp.einsum(
            "bqngd,bknd->bngqk",
            inputs.query.reshape(grouped) * spec.scale,
            inputs.key,
            preferred_element_type=jnp.float32,
        )
        bias = grouped_bias(spec, query_positions, key_positions, inputs.bias_parameters)
        weights = masked_softmax(spec, scores, allowed, bias, inputs.sinks)
        weights = weights.astype(inputs.value.dtype)
        output = jnp.einsum("bngqk,bknd->bqngd", weights, inputs.value)
        return output.reshape(spec.batch, spec.query_length, spec.query_heads, spec.value_dim)
