"""What a token should be: one token, or a distribution over tokens."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class SoftTargets(NamedTuple):
    """A distribution p over tokens, of each token: a teacher's k likeliest, or all with k = vocab.

    The rest of the vocabulary has probability 0. If p sums to less than 1, as when it is cut off
    and not scaled up again, it counts for less. Several distributions are mixed by listing the
    tokens of all, each probability times its share; hard targets are one token of probability 1.
    """

    ids: jax.Array  # [batch, seq, k] int; one that comes twice has the sum of its probabilities
    probabilities: jax.Array  # [batch, seq, k]


Targets = jax.Array | SoftTargets
"""[batch, seq] int, or a distribution."""


class Wanted(NamedTuple):
    """What a loss reads of targets; see `wanted`."""

    mass: float | jax.Array  # [..., 1], sum_v p_v
    expected_logit: jax.Array  # [..., 1], sum_v p_v logit_v
    likeliest_logit: jax.Array  # [..., 1], of the v with the highest p_v
    probabilities: jax.Array  # [..., vocab], p


def wanted(targets: Targets, logits: jax.Array) -> Wanted:
    """Compares targets with [..., vocab] logits."""
    return _soft(targets, logits) if isinstance(targets, SoftTargets) else _hard(targets, logits)


def _hard(ids: jax.Array, logits: jax.Array) -> Wanted:
    ids = ids[..., None]
    target_logits = jnp.take_along_axis(logits, ids, axis=-1)
    # Compared and not scattered, which fuses with what reads it.
    is_target = jax.lax.broadcasted_iota(ids.dtype, logits.shape, logits.ndim - 1) == ids
    return Wanted(1.0, target_logits, target_logits, is_target)


def _soft(targets: SoftTargets, logits: jax.Array) -> Wanted:
    ids, probabilities = targets.ids, targets.probabilities.astype(jnp.float32)
    candidates = jnp.take_along_axis(logits, ids, axis=-1)
    likeliest = jnp.argmax(probabilities, axis=-1, keepdims=True)
    scatter = jnp.vectorize(lambda zeros, i, p: zeros.at[i].add(p), signature="(v),(k),(k)->(v)")
    return Wanted(
        mass=probabilities.sum(axis=-1, keepdims=True),
        expected_logit=jnp.sum(probabilities * candidates, axis=-1, keepdims=True),
        likeliest_logit=jnp.take_along_axis(candidates, likeliest, axis=-1),
        probabilities=scatter(jnp.zeros_like(logits), ids, probabilities),
    )
