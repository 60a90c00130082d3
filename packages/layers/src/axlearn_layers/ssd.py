"""The recurrence of Mamba-2, computed in chunks."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from axlearn_layers.chunks import Decay, scan_chunks


class SSDInputs(NamedTuple):
    """What the recurrence reads of each token. Head h belongs to group h // (heads / groups)."""

    value: jax.Array  # [batch, seq, heads, head_dim], x
    step: jax.Array  # [batch, seq, heads] float32, dt; 0 leaves the state as it is
    key: jax.Array  # [batch, seq, groups, state_dim], B
    query: jax.Array  # [batch, seq, groups, state_dim], C


def ssd(
    inputs: SSDInputs, rate: jax.Array, state: jax.Array, document: jax.Array, chunk_size: int
) -> tuple[jax.Array, jax.Array]:
    """Computes S_t = exp(dt_t a) S_{t-1} + dt_t x_t B_t^T and y_t = S_t C_t of each head.

    State space duality (arXiv:2405.21060): within a chunk this is attention without a softmax,
    y_i = sum_{j <= i} (C_i . B_j) exp(a sum_{j < k <= i} dt_k) dt_j x_j, and only states pass from
    chunk to chunk. All is float32.

    Args:
        inputs: see there.
        rate: [heads], a < 0.
        state: [batch, heads, head_dim, state_dim] float32 before the first token, of document 0.
        document: [batch, seq] int, a new number where the state starts anew; none comes back.
        chunk_size: tokens of a chunk.

    Returns:
        y, [batch, seq, heads, head_dim] float32, and the last state.
    """
    return scan_chunks(_chunk, state, inputs, inputs.step * rate, document, chunk_size)


def _chunk(state: jax.Array, chunk: SSDInputs, decay: Decay) -> tuple[jax.Array, jax.Array]:
    per_group = chunk.value.shape[2] // chunk.key.shape[2]
    key, query = (x.astype(jnp.float32) for x in (chunk.key, chunk.query))
    driven = chunk.value.astype(jnp.float32) * chunk.step[..., None]
    scores = jnp.repeat(jnp.einsum("bign,bjgn->bijg", query, key), per_group, axis=-1)
    key, query = (jnp.repeat(x, per_group, axis=2) for x in (key, query))
    y = jnp.einsum("bijh,bjhp->bihp", scores * decay.within, driven)
    y += jnp.einsum("bihn,bhpn,bih->bihp", query, state, decay.before)
    added = jnp.einsum("bjhp,bjhn,bjh->bhpn", driven, key, decay.after)
    return y, state * decay.before[:, -1, :, None, None] + added
