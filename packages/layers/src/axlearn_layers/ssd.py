"""The recurrence of Mamba-2, computed in chunks."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class SSDInputs(NamedTuple):
    """What the recurrence reads of each token. Head h belongs to group h // (heads / groups)."""

    value: jax.Array  # [batch, seq, heads, head_dim], x
    step: jax.Array  # [batch, seq, heads] float32, dt; 0 leaves the state as it is
    key: jax.Array  # [batch, seq, groups, state_dim], B
    query: jax.Array  # [batch, seq, groups, state_dim], C
    document: jax.Array  # [batch, seq] int, a new number where the state starts anew; never back


def ssd(
    inputs: SSDInputs, rate: jax.Array, state: jax.Array, chunk_size: int
) -> tuple[jax.Array, jax.Array]:
    """Computes S_t = exp(dt_t a) S_{t-1} + dt_t x_t B_t^T and y_t = S_t C_t of each head.

    State space duality (arXiv:2405.21060): within a chunk this is attention without a softmax,
    y_i = sum_{j <= i} (C_i . B_j) exp(a sum_{j < k <= i} dt_k) dt_j x_j, and only states pass from
    chunk to chunk. Chunks are scanned and made again in the backward pass, so that no more than
    one chunk's [heads, chunk, chunk] weights exist. All is float32.

    Args:
        inputs: see there.
        rate: [heads], a < 0.
        state: [batch, heads, head_dim, state_dim] before the first token, of document 0.
        chunk_size: tokens of a chunk.

    Returns:
        y, [batch, seq, heads, head_dim] float32, and the last state.
    """
    seq = inputs.value.shape[1]
    size = min(chunk_size, seq)
    padding = -seq % size

    def chunked(x: jax.Array) -> jax.Array:
        """[batch, seq, ...] -> [chunks, batch, size, ...]; the last token is repeated to fill."""
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2), mode="edge")
        return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)

    # What fills the last chunk takes no step and is of the last document: the state stays.
    real = (jnp.arange(seq + padding) < seq).reshape(-1, 1, size, 1)
    chunks = SSDInputs(*map(chunked, inputs))
    chunks = chunks._replace(step=chunks.step * real)

    def advance(
        carry: tuple[jax.Array, jax.Array], chunk: SSDInputs
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        state, document = carry
        y, state = _chunk(chunk, rate, state, document)
        return (state, chunk.document[:, -1]), y

    start = (state.astype(jnp.float32), jnp.zeros_like(inputs.document[:, 0]))
    (state, _), y = jax.lax.scan(jax.checkpoint(advance), start, chunks)
    return jnp.moveaxis(y, 0, 1).reshape(y.shape[1], -1, *y.shape[3:])[:, :seq], state


def _chunk(
    chunk: SSDInputs, rate: jax.Array, state: jax.Array, before: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns a chunk's outputs and the state after it; `before` is the document of `state`."""
    _, size, heads, _ = chunk.value.shape
    groups = chunk.key.shape[2]

    def by_head(x: jax.Array) -> jax.Array:
        return jnp.repeat(x.astype(jnp.float32), heads // groups, axis=2)

    decay = jnp.cumsum(chunk.step * rate, axis=1)  # [batch, size, heads], from the chunk's start
    document = chunk.document
    driven = chunk.value.astype(jnp.float32) * chunk.step[..., None]

    later = jnp.tri(size, dtype=bool) & (document[:, :, None] == document[:, None, :])
    apart = decay[:, :, None] - decay[:, None]  # [batch, i, j, heads]
    # Masked before the exponential, which would overflow where j > i.
    weights = jnp.exp(jnp.where(later[..., None], apart, -jnp.inf))
    scores = jnp.einsum(
        "bign,bjgn->bijg", chunk.query, chunk.key, preferred_element_type=jnp.float32
    )
    scores = jnp.repeat(scores, heads // groups, axis=-1)
    y = jnp.einsum("bijh,bjhp->bihp", scores * weights, driven)

    continues = (document == before[:, None])[..., None]  # the document that the state is of
    remembered = jnp.where(continues, jnp.exp(decay), 0)  # [batch, size, heads]
    y += jnp.einsum("bihn,bhpn,bih->bihp", by_head(chunk.query), state, remembered)

    lasting = (document == document[:, -1:])[..., None]
    kept = jnp.where(lasting, jnp.exp(decay[:, -1:] - decay), 0)
    added = jnp.einsum("bjhp,bjhn,bjh->bhpn", driven, by_head(chunk.key), kept)
    return y, state * remembered[:, -1, :, None, None] + added
