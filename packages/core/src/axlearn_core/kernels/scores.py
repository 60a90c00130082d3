"""From scores to weights, the part of attention that plain JAX kernels share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.kernels.attention import AttentionSpec

# Far below any score, yet finite: a row with nothing allowed has finite weights and gradients.
_FORBIDDEN = -1e30


def masked_softmax(
    spec: AttentionSpec,
    scores: jax.Array,
    allowed: Any | None,
    bias: jax.Array | None = None,
    sinks: jax.Array | None = None,
) -> jax.Array:
    """Caps, biases, masks and normalises float32 scores over the last axis.

    Args:
        spec: Gives the cap, and whether rows may be empty (they become zeros).
        scores: [batch, kv, group, query, key] float32, already scaled.
        allowed: Booleans that broadcast to the scores; None is everything.
        bias: As `grouped_bias` returns it.
        sinks: [query_heads] scores of attending to nothing.
    """
    if spec.logit_cap is not None:
        scores = spec.logit_cap * jnp.tanh(scores / spec.logit_cap)
    if bias is not None:
        scores = scores + bias
    if allowed is not None:
        scores = jnp.where(allowed, scores, _FORBIDDEN)
    weights = jax.nn.softmax(scores, axis=-1) if sinks is None else _with_sinks(scores, sinks)
    if allowed is None or not spec.may_leave_rows_empty:
        return weights
    return jnp.where(allowed, weights, 0.0)


def grouped_bias(
    spec: AttentionSpec,
    query_positions: jax.Array,
    key_positions: jax.Array,
    parameters: jax.Array | None,
) -> jax.Array | None:
    """Returns the bias of some queries and keys, [(batch,) kv, group, query, key]."""
    if spec.bias is None:
        return None
    bias = spec.bias.evaluate(query_positions, key_positions, parameters)
    grouped = (spec.kv_heads, spec.group)
    return bias.reshape(*bias.shape[:-3], *grouped, *bias.shape[-2:])


def _with_sinks(scores: jax.Array, sinks: jax.Array) -> jax.Array:
    """Normalises with one column more, which is then left out."""
    column = sinks.astype(scores.dtype).reshape(*scores.shape[1:3], 1, 1)
    column = jnp.broadcast_to(column, (*scores.shape[:-1], 1))
    return jax.nn.softmax(jnp.concatenate([scores, column], axis=-1), axis=-1)[..., :-1]
