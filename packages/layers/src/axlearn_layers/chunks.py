"""Linear recurrences, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

Inputs = TypeVar("Inputs", bound=tuple[jax.Array, ...])


class Decay(NamedTuple):
    """What is left of the past within a chunk; 0 where another document lies between."""

    within: jax.Array  # [batch, i, j, heads], at token i of what token j <= i wrote
    before: jax.Array  # [batch, i, heads], at token i of the state before the chunk
    after: jax.Array  # [batch, j, heads], after the chunk of what token j wrote


def scan_chunks(
    step: Callable[[jax.Array, Inputs, Decay], tuple[jax.Array, jax.Array]],
    state: jax.Array,
    inputs: Inputs,
    log_decay: jax.Array,
    document: jax.Array,
    chunk_size: int,
) -> tuple[jax.Array, jax.Array]:
    """Runs `step(state, inputs of a chunk, decay) -> (y, state)` over a sequence.

    Chunks are made again in the backward pass, so that only states are kept and no more than one
    chunk's [heads, chunk, chunk] weights exist. The last chunk is filled with zeros, which
    must leave the state as it is.

    Args:
        step: see above.
        state: float32, before the first token; of document 0.
        inputs: each [batch, seq, ...].
        log_decay: [batch, seq, heads] float32, at most 0.
        document: [batch, seq] int, a new number where the state starts anew; none comes back.
        chunk_size: tokens of a chunk.

    Returns:
        y, [batch, seq, ...], and the last state.
    """
    seq = document.shape[1]
    size = min(chunk_size, seq)
    padding = -seq % size

    def chunked(x: jax.Array, mode: str = "constant") -> jax.Array:
        """[batch, seq, ...] -> [chunks, batch, size, ...]."""
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2), mode=mode)
        return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)

    def advance(
        carry: tuple[jax.Array, jax.Array], chunk: tuple[Inputs, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        state, last = carry
        inputs, log_decay, document = chunk
        y, state = step(state, inputs, _decay(log_decay, document, last))
        return (state, document[:, -1]), y

    chunks = (jax.tree.map(chunked, inputs), chunked(log_decay), chunked(document, "edge"))
    start = (state, jnp.zeros_like(document[:, 0]))
    (state, _), y = jax.lax.scan(jax.checkpoint(advance), start, chunks)
    return jnp.moveaxis(y, 0, 1).reshape(y.shape[1], -1, *y.shape[3:])[:, :seq], state


def number_documents(segment_ids: jax.Array | None, batch_size: int, seq: int) -> jax.Array:
    """Returns [batch, seq] numbers of documents, 0, 1, ...; one per change of the segment id."""
    if segment_ids is None:
        return jnp.zeros((batch_size, seq), jnp.int32)
    changes = segment_ids[:, 1:] != segment_ids[:, :-1]
    return jnp.pad(jnp.cumsum(changes, axis=1), [(0, 0), (1, 0)])


def _decay(log_decay: jax.Array, document: jax.Array, last: jax.Array) -> Decay:
    """`last` is the document of the token before the chunk."""
    total = jnp.cumsum(log_decay, axis=1)
    causal = jnp.tri(document.shape[1], dtype=bool)
    later = causal & (document[:, :, None] == document[:, None, :])
    # Masked before the exponential, which would overflow where j > i.
    apart = jnp.where(later[..., None], total[:, :, None] - total[:, None], -jnp.inf)
    continues = (document == last[:, None])[..., None]
    before = jnp.where(continues, jnp.exp(total), 0)
    return Decay(jnp.exp(apart), before, after=jnp.exp(apart[:, -1]))
