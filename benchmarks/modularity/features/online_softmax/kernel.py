"""Attention that never holds all scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.kernels import AttentionInputs, AttentionSpec

CHUNK = 8  # keys at a time; a real one is as large as the cache allows
FORBIDDEN = -1e30

State = tuple[jax.Array, jax.Array, jax.Array]
"""Largest score and sum of weights, [batch, kv, group, query]; weighted values, [..., value_dim]"""


class OnlineSoftmaxAttention:
    """Scans over chunks of keys with a running maximum (arXiv:1805.02867, arXiv:2112.05682).

    m' = max(m, s), l' = l e^(m - m') + sum e^(s - m'), o' = o e^(m - m') + e^(s - m') v; o / l.
    """

    priority = 20  # before plain JAX

    def supports(self, spec: AttentionSpec) -> str | None:
        if not spec.positions_are_arange:
            return "positions are known only when running"
        if spec.key_length % CHUNK:
            return f"the number of keys (={spec.key_length}) must be a multiple of {CHUNK}"
        return None

    def __call__(self, spec: AttentionSpec, inputs: AttentionInputs) -> jax.Array:
        heads = (spec.kv_heads, spec.group)
        shape = (spec.batch, *heads, spec.query_length)
        grouped = inputs.query.reshape(spec.batch, spec.query_length, *heads, spec.head_dim)
        query = grouped.astype(jnp.float32) * spec.scale
        places = jnp.arange(spec.query_length)

        def body(state: State, start: jax.Array) -> tuple[State, None]:
            best, total, output = state
            key, value = (
                jax.lax.dynamic_slice_in_dim(x, start, CHUNK, axis=1).astype(jnp.float32)
                for x in (inputs.key, inputs.value)
            )
            keys = start + jnp.arange(CHUNK)
            segments = inputs.key_segments
            if segments is not None:
                segments = jax.lax.dynamic_slice_in_dim(segments, start, CHUNK, axis=1)
            scores = jnp.einsum("bqngd,bknd->bngqk", query, key)
            if spec.logit_cap is not None:
                scores = spec.logit_cap * jnp.tanh(scores / spec.logit_cap)
            if spec.bias is not None:
                bias = spec.bias.evaluate(places, keys, inputs.bias_parameters)
                scores = scores + bias.reshape(*bias.shape[:-3], *heads, *bias.shape[-2:])
            allowed = spec.mask.evaluate(places, keys, inputs.query_segments, segments)
            allowed = allowed if allowed.ndim == 2 else allowed[:, None, None]
            scores = jnp.where(allowed, scores, FORBIDDEN)
            higher = jnp.maximum(best, scores.max(axis=-1))
            weights = jnp.where(allowed, jnp.exp(scores - higher[..., None]), 0.0)
            shrink = jnp.exp(best - higher)
            output = output * shrink[..., None] + jnp.einsum("bngqk,bknv->bngqv", weights, value)
            return (higher, total * shrink + weights.sum(axis=-1), output), None

        best, total = jnp.full(shape, FORBIDDEN), jnp.zeros(shape)
        if inputs.sinks is not None:
            sinks = inputs.sinks.astype(jnp.float32).reshape(1, *heads, 1)
            best, total = jnp.broadcast_to(sinks, shape), jnp.ones(shape)
        state = (best, total, jnp.zeros((*shape, spec.value_dim)))
        (_, total, output), _ = jax.lax.scan(body, state, jnp.arange(0, spec.key_length, CHUNK))
        output = output / jnp.where(total == 0, 1.0, total)[..., None]
        output = output.transpose(0, 3, 1, 2, 4).astype(inputs.value.dtype)
        return output.reshape(spec.batch, spec.query_length, spec.query_heads, spec.value_dim)
