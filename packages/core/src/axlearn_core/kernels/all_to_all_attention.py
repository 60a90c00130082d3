"""Attention over a split sequence with whole sequences of some heads each (DeepSpeed Ulysses)."""

from __future__ import annotations

import jax

from axlearn_core.kernels.attention import (
    AttentionInputs,
    ContextAttentionSpec,
    repeat_heads,
)
from axlearn_core.kernels.selection import select


class AllToAllAttention:
    """Exchanges parts of the sequence for parts of the heads, and back (arXiv:2309.14509).

    Between the two exchanges each device has the whole sequence of 1/n of its heads, so that any
    kernel of "attention" computes it, with any mask, bias or sinks.

    Each device sends, with n devices, b rows, S tokens, h query and g kv heads of width d (at
    least n kv heads: fewer are repeated), and as much again in the backward pass:

      (n - 1) / n * b * S / n * (2h + 2g) * d   numbers

    That falls with n, and the ring's does not: this one is asked first. It also leaves the blocks
    to the machine's own kernel.
    """

    priority = 20

    def supports(self, spec: ContextAttentionSpec) -> str | None:
        if spec.query_heads % spec.devices:
            return (
                f"the {spec.devices} devices that split the sequence do not divide the "
                f"{spec.query_heads} query heads of each of them"
            )
        return None

    def __call__(self, spec: ContextAttentionSpec, inputs: AttentionInputs) -> jax.Array:
        query, key, value = (
            _exchange(spec, repeat_heads(x, spec.devices), give=2, take=1) for x in inputs[:3]
        )
        local = spec.whole(query_heads=query.shape[2], kv_heads=key.shape[2])
        whole = AttentionInputs(
            query,
            key,
            value,
            *(_gather(spec, x) for x in inputs[3:7]),
            *(_own_heads(spec, x) for x in inputs[7:]),
        )
        output = select("attention", local, spec.kernel)(local, whole)
        return _exchange(spec, output, give=1, take=2)


def _exchange(spec: ContextAttentionSpec, x: jax.Array, *, give: int, take: int) -> jax.Array:
    """Gives the others parts of one axis of [batch, seq, heads, dim] for theirs of another."""
    if spec.devices == 1:
        return x
    exchanged: jax.Array = jax.lax.all_to_all(x, spec.axes, give, take, tiled=True)
    return exchanged


def _gather(spec: ContextAttentionSpec, x: jax.Array | None) -> jax.Array | None:
    """Gathers positions or segments, a number per token where vectors have many."""
    if x is None or spec.devices == 1:
        return x
    gathered: jax.Array = jax.lax.all_gather(x, spec.axes, axis=x.ndim - 1, tiled=True)
    return gathered


def _own_heads(spec: ContextAttentionSpec, x: jax.Array | None) -> jax.Array | None:
    """Takes this device's part of what is there for each head."""
    if x is None or spec.devices == 1:
        return x
    count = x.shape[0] // spec.devices
    start = jax.lax.axis_index(spec.axes) * count
    own: jax.Array = jax.lax.dynamic_slice_in_dim(x, start, count)
    return own
