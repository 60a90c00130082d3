"""From scores to weights, the part of attention that plain JAX kernels share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.kernels.attention import AttentionSpec

# Far below any score, yet finite: a row with nothing allowed has finite weights and gradients.
_FORBIDDEN = -1e30


def masked_softmax(spec: AttentionSpec, scores: jax.Array, allowed: Any | None) -> jax.Array:
    """Caps, masks and normalises float32 scores over the last axis.

    Args:
        spec: Gives the cap, and whether rows may be empty (they become zeros).
        scores: [..., query, key] float32, already scaled.
        allowed: Booleans that broadcast to the scores; None is everything.
    """
    if spec.logit_cap is not None:
        scores = spec.logit_cap * jnp.tanh(scores / spec.logit_cap)
    if allowed is None:
        return jax.nn.softmax(scores, axis=-1)
    weights = jax.nn.softmax(jnp.where(allowed, scores, _FORBIDDEN), axis=-1)
    return jnp.where(allowed, weights, 0.0) if spec.may_leave_rows_empty else weights
