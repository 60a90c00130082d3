"""Attention over a split sequence whose keys and values travel from device to device."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from axlearn_core.kernels.attention import AttentionInputs, ContextAttentionSpec
from axlearn_core.kernels.ring import Halves, Now, Ring
from axlearn_core.kernels.ring_blocks import (
    Given,
    Gradients,
    Keys,
    Queries,
    Sums,
    add,
    add_gradients,
)
from axlearn_core.kernels.ring_schedule import schedule

T = TypeVar("T")


class RingAttention:
    """Ring attention (arXiv:2310.01889) in plain JAX, blocks balanced over the devices.

    Each device keeps its queries, n of them in a ring pass keys and values on, and softmax is
    summed up as they come by (arXiv:2205.14135). The backward pass makes the weights again from
    the logarithm of their sums, and the gradients of keys and values travel with them, summed in
    float32 until the last hop, home. Blocks that the mask rules out are not computed, and where no
    device needs any, hops are joined into one; see `schedule`. If that is faster, as with
    `causal()`, each device changes its second half of the sequence for one that balances the first
    (arXiv:2407.21783).

    Each device sends, with n devices, b rows, S tokens, h query and g key heads of width d, if all
    keys are needed:

      (n - 1) * b * S / n * 2g * d      forward; the same backward, and besides
      (n - 1) * b * S / n * 2g * d      gradients in float32, and once more in their own dtype
      b * S / n * (2h + 2g) * d         forward and backward, at most, for the balance

    The first three do not fall with n, but hide behind the products; the number of heads sets no
    limit. The balance alone costs as much as `AllToAllAttention` does in all.
    """

    priority = 10

    def supports(self, spec: ContextAttentionSpec) -> str | None:
        if spec.kernel is not None:
            return f"it computes its blocks itself, and the kernel {spec.kernel!r} is asked for"
        if not spec.positions_are_arange:
            return "positions are known only when running, so no block can be skipped"
        if spec.bias is not None or spec.has_sinks:
            return "it has no gradients of biases and sinks"
        chunks = 2 * spec.devices
        if spec.query_length % chunks or spec.key_length % chunks:
            return (
                f"it cuts sequences into 2 x {spec.devices} chunks, which does not divide "
                f"{spec.query_length} queries and {spec.key_length} keys"
            )
        return None

    def __call__(self, spec: ContextAttentionSpec, inputs: AttentionInputs) -> jax.Array:
        ring = Ring(
            spec.axes, schedule(spec.mask, spec.query_length, spec.key_length, spec.devices)
        )
        batch, queries = inputs.query.shape[:2]
        grouped = (batch, queries, spec.kv_heads, spec.group, spec.head_dim)
        query = (inputs.query * spec.scale).reshape(grouped).transpose(0, 2, 3, 1, 4)
        chunks = _Chunks(
            ring.arrange(query, axis=3),
            _Travelling(
                ring.arrange(inputs.key.transpose(0, 2, 1, 3), axis=2),
                ring.arrange(inputs.value.transpose(0, 2, 1, 3), axis=2),
                _segments(ring, inputs.key_segments),
            ),
            _segments(ring, inputs.query_segments),
        )
        output = ring.restore(_attend(ring, spec, chunks), axis=3)
        flat = (batch, queries, spec.query_heads, spec.value_dim)
        return output.transpose(0, 3, 1, 2, 4).reshape(flat)


class _Travelling(NamedTuple):
    """What the devices of a ring pass on, in two chunks."""

    key: Halves  # [batch, kv, chunk, head_dim]
    value: Halves  # [batch, kv, chunk, value_dim]
    segments: Halves  # [batch, chunk], or None twice

    def keys(self, ring: Ring, half: int, shift: int) -> Keys:
        key = self.key[half]
        places = ring.positions(half, key.shape[2], shift)
        return Keys(key, self.value[half], places, self.segments[half])


class _Chunks(NamedTuple):
    """What a device has when the ring begins."""

    query: Halves  # [batch, kv, group, chunk, head_dim], scaled
    keys: _Travelling
    segments: Halves  # of the queries

    def queries(self, ring: Ring) -> list[Queries]:
        return [
            Queries(query, ring.positions(half, query.shape[3]), self.segments[half])
            for half, query in enumerate(self.query)
        ]


def _segments(ring: Ring, segments: jax.Array | None) -> Halves:
    return (None, None) if segments is None else ring.arrange(segments, axis=1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(ring: Ring, spec: ContextAttentionSpec, chunks: _Chunks) -> Halves:
    """Returns [batch, kv, group, chunk, value_dim], twice."""
    return _forward(ring, spec, chunks)[0]


def _forward(ring: Ring, spec: ContextAttentionSpec, chunks: _Chunks) -> tuple[Halves, Any]:
    queries = chunks.queries(ring)

    def turn(
        now: Now, carry: tuple[_Travelling, tuple[Sums, Sums]]
    ) -> tuple[_Travelling, tuple[Sums, Sums]]:
        here, sums = carry
        there = ring.pass_on(here, now.hop)  # before the products, to travel during them
        for pair, choices in zip(now.pairs, now.choices, strict=True):
            keys = here.keys(ring, pair.key, now.shift)
            step = partial(add, spec, queries[pair.query], keys)
            sums = _with(sums, pair.query, ring.by_kind(pair, choices, step, sums[pair.query]))
        return there, sums

    first, second = (Sums.of_nothing(query, spec.value_dim) for query in chunks.query)
    _, sums = ring.over_turns(turn, (chunks.keys, (first, second)))
    output = sums[0].mean.astype(spec.dtype), sums[1].mean.astype(spec.dtype)
    return output, (chunks, output, [x.log_total for x in sums])


def _backward(
    ring: Ring, spec: ContextAttentionSpec, kept: Any, gradient: Halves
) -> tuple[_Chunks]:
    chunks, output, log_totals = kept
    queries = chunks.queries(ring)
    given = [Given.of(*of_half) for of_half in zip(log_totals, gradient, output, strict=True)]

    def turn(now: Now, carry: _Backward) -> _Backward:
        here, of_query, of_key, of_value = carry
        there = ring.pass_on(here, now.hop)
        for pair, choices in zip(now.pairs, now.choices, strict=True):
            q, k = pair.query, pair.key
            keys = here.keys(ring, k, now.shift)
            step = partial(add_gradients, spec, queries[q], keys, given[q])
            before = Gradients(of_query[q], of_key[k], of_value[k])
            after = ring.by_kind(pair, choices, step, before)
            of_query = _with(of_query, q, after.query)
            of_key, of_value = _with(of_key, k, after.key), _with(of_value, k, after.value)
        of_key, of_value = ring.pass_on((of_key, of_value), now.hop)
        return _Backward(there, of_query, of_key, of_value)

    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, jnp.float32),
        (chunks.query, chunks.keys.key, chunks.keys.value),
    )
    _, *sums = ring.over_turns(turn, _Backward(chunks.keys, *zeros))
    of_query, *of_keys = jax.tree.map(lambda x: x.astype(spec.dtype), sums)
    of_key, of_value = ring.pass_on(of_keys, ring.schedule.home)
    nothing = None, None
    return (_Chunks(of_query, _Travelling(of_key, of_value, nothing), nothing),)


class _Backward(NamedTuple):
    """What the turns of the backward pass hand on; gradients are float32."""

    here: _Travelling
    of_query: Halves
    of_key: Halves  # of the keys that are here
    of_value: Halves


def _with(pair: tuple[T, T], index: int, item: T) -> tuple[T, T]:
    return (item, pair[1]) if index == 0 else (pair[0], item)


_attend.defvjp(_forward, _backward)
