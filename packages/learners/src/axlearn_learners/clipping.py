"""Gradient clipping."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.training.learner import Params


def global_norm(tree: Params) -> jax.Array:
    """Returns the Euclidean norm of all numbers of a tree, [] float32, summed in float32."""
    squares = [jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


def clip_by_global_norm(grads: Params, norm: jax.Array, limit: float) -> Params:
    """Scales gradients of the given norm down to `limit` where they exceed it (arXiv:1211.5063).

    A norm that is not finite makes all gradients NaN, for the trainer's check to find.
    """
    scale = jnp.minimum(1, limit / norm)
    clipped: Params = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)
    return clipped
