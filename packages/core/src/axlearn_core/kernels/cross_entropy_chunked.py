"""The fast cross entropy in plain JAX: chunk by chunk, with the gradients on the way.

Logits are made for `chunk_size` tokens of every sequence at a time. When differentiated, the
gradients of `hidden` and `table` are made in the forward pass, while the chunk's logits exist, so
that no product is computed twice (arXiv:2410.10989). On a mesh each device
walks through chunks of the tokens that it has, sums the gradient of `table` over them, and only
then adds up with others; `table` is gathered once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from axlearn_core.kernels.cross_entropy import (
    CrossEntropyInputs,
    CrossEntropySpec,
    LossSums,
    soft_cap,
)
from axlearn_core.kernels.targets import Targets, wanted
from axlearn_core.parallel import constrain, constrain_weight, device_count, dividing_axes

Carry = TypeVar("Carry")
T = TypeVar("T")


class ChunkedCrossEntropy:
    """Any case on any platform; exact."""

    priority = 10

    def supports(self, spec: CrossEntropySpec) -> str | None:
        return None

    def __call__(self, spec: CrossEntropySpec, inputs: CrossEntropyInputs) -> LossSums:
        sums: LossSums = _loss(*inputs, spec)
        return sums


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _loss(
    hidden: jax.Array,
    table: jax.Array,
    targets: Targets,
    weights: jax.Array,
    spec: CrossEntropySpec,
) -> LossSums:
    cast_table = _gathered(table, hidden)

    def step(sums: LossSums, chunk: _Tokens) -> tuple[LossSums, None]:
        added, _ = _chunk_loss(chunk, cast_table, spec)
        return _add(sums, added), None

    def of_part(tokens: _Tokens) -> LossSums:
        return _over_chunks(step, _nothing(), tokens, spec.chunk_size)[0]

    return _sum_parts(_over_parts(of_part)(_into_parts(_Tokens(hidden, targets, weights))))


def _loss_with_gradients(
    hidden: jax.Array,
    table: jax.Array,
    targets: Targets,
    weights: jax.Array,
    spec: CrossEntropySpec,
) -> tuple[LossSums, tuple[jax.Array, jax.Array]]:
    cast_table = _gathered(table, hidden)

    def step(
        carry: tuple[LossSums, jax.Array], chunk: _Tokens
    ) -> tuple[tuple[LossSums, jax.Array], jax.Array]:
        sums, table_gradient = carry
        added, logit_gradient = _chunk_loss(chunk, cast_table, spec)
        gradient = logit_gradient.astype(hidden.dtype)
        # As [dim, vocab_size], so that no compiler transposes the chunk's large gradient.
        table_gradient += jnp.einsum(
            "bcd,bcv->dv",
            *_multipliable(spec, chunk.hidden, gradient),
            preferred_element_type=jnp.float32,
        )
        return (_add(sums, added), table_gradient), jnp.einsum("bcv,vd->bcd", gradient, cast_table)

    def of_part(tokens: _Tokens) -> tuple[tuple[LossSums, jax.Array], jax.Array]:
        start = (_nothing(), jnp.zeros(table.shape[::-1], jnp.float32))
        return _over_chunks(step, start, tokens, spec.chunk_size)

    tokens = _into_parts(_Tokens(hidden, targets, weights))
    (sums, table_gradient), hidden_gradient = _over_parts(of_part)(tokens)
    table_gradient = constrain(table_gradient, "batch", "seq", None, "vocab")
    # Each device gets its part of "embed" of all before they are summed. Else compilers sum the
    # whole among all, and drop what a device does not keep.
    table_gradient = constrain(jnp.moveaxis(table_gradient, 2, 0), "embed", "batch", "seq", "vocab")
    table_gradient = constrain(table_gradient.sum((1, 2)).T, "vocab", "embed")
    hidden_gradient = constrain(_from_parts(hidden_gradient), "batch", "seq", None)
    return _sum_parts(sums), (hidden_gradient, table_gradient.astype(table.dtype))


def _scale_gradients(
    spec: CrossEntropySpec,
    gradients: tuple[jax.Array, jax.Array],
    cotangents: LossSums,
) -> tuple[jax.Array, jax.Array, None, None]:
    hidden, table = gradients
    outer = cotangents.total
    return hidden * outer.astype(hidden.dtype), table * outer.astype(table.dtype), None, None


_loss.defvjp(_loss_with_gradients, _scale_gradients)


class _Tokens(NamedTuple):
    hidden: jax.Array  # [batch, tokens, dim]
    targets: Targets  # [batch, tokens], or soft
    weights: jax.Array  # [batch, tokens]


def _chunk_loss(
    chunk: _Tokens, table: jax.Array, spec: CrossEntropySpec
) -> tuple[LossSums, jax.Array]:
    """Returns the loss of some tokens and its gradient by the logits, [batch, tokens, vocab].

    The gradient costs nothing where it is not used.
    """
    logits = soft_cap(
        jnp.einsum("bcd,vd->bcv", chunk.hidden, table, preferred_element_type=jnp.float32),
        spec.logit_cap,
    )
    weights = chunk.weights[..., None].astype(jnp.float32)
    highest = logits.max(axis=-1, keepdims=True)
    exponentials = jnp.exp(logits - highest)
    partition = exponentials.sum(axis=-1, keepdims=True)
    log_partition = jnp.log(partition) + highest
    mass, expected_logit, likeliest_logit, probabilities = wanted(chunk.targets, logits)

    smoothing, z_loss_scale = spec.label_smoothing, spec.z_loss_scale
    if smoothing:
        mean = logits.mean(axis=-1, keepdims=True)
        expected_logit = (1 - smoothing) * expected_logit + smoothing * mass * mean
        probabilities = (1 - smoothing) * probabilities + smoothing * mass / logits.shape[-1]
    cross_entropy = jnp.sum(weights * (mass * log_partition - expected_logit))
    z_loss = z_loss_scale * jnp.sum(weights * log_partition**2)
    correct = jnp.sum(weights * (likeliest_logit >= highest))
    sums = LossSums(cross_entropy + z_loss, cross_entropy, z_loss, correct)

    pull = (mass + 2 * z_loss_scale * log_partition) / partition
    gradient = weights * (exponentials * pull - probabilities)
    if spec.logit_cap is not None:
        gradient *= 1 - (logits / spec.logit_cap) ** 2  # tanh' = 1 - tanh^2
    return sums, gradient


def _multipliable(spec: CrossEntropySpec, *operands: jax.Array) -> tuple[jax.Array, ...]:
    """Widens what is multiplied on a CPU, which has no product of bfloat16 with float32 sums."""
    if spec.platform != "cpu":
        return operands
    return tuple(x.astype(jnp.float32) for x in operands)


def _gathered(table: jax.Array, hidden: jax.Array) -> jax.Array:
    return constrain_weight(table.astype(hidden.dtype), "vocab", "embed")


def _into_parts(tokens: _Tokens) -> _Tokens:
    """[batch, seq, ...] -> [batch parts, seq parts, batch / parts, seq / parts, ...]."""
    batch, seq = tokens.weights.shape
    rows = device_count(dividing_axes("batch", batch))
    columns = device_count(dividing_axes("seq", seq))

    def split(x: jax.Array) -> jax.Array:
        rest = x.shape[2:]
        x = constrain(x, "batch", "seq", *[None] * len(rest))
        x = x.reshape(rows, batch // rows, columns, seq // columns, *rest)
        return constrain(jnp.moveaxis(x, 2, 1), "batch", "seq", *[None] * (2 + len(rest)))

    divided: _Tokens = jax.tree.map(split, tokens)
    return divided


def _from_parts(x: jax.Array) -> jax.Array:
    """Undoes `_into_parts`."""
    rows, columns, batch, seq, *rest = x.shape
    return jnp.moveaxis(x, 1, 2).reshape(rows * batch, columns * seq, *rest)


def _over_parts(function: Callable[[_Tokens], T]) -> Callable[[_Tokens], T]:
    return jax.vmap(jax.vmap(function))


def _sum_parts(tree: T) -> T:
    summed: T = jax.tree.map(lambda x: x.sum((0, 1)), tree)
    return summed


def _over_chunks(
    step: Callable[[Carry, _Tokens], tuple[Carry, Any]],
    carry: Carry,
    tokens: _Tokens,
    chunk_size: int,
) -> tuple[Carry, Any]:
    """Scans `step` over chunks of the sequence; what it returns is joined along the sequence."""
    length = tokens.weights.shape[1]
    if length <= chunk_size:
        return step(carry, tokens)
    whole = length - length % chunk_size
    carry, outputs = jax.lax.scan(
        step, carry, jax.tree.map(lambda x: _split(x[:, :whole], chunk_size), tokens)
    )
    outputs = jax.tree.map(_join, outputs)
    if whole < length:
        carry, rest = step(carry, jax.tree.map(lambda x: x[:, whole:], tokens))
        outputs = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), outputs, rest)
    return carry, outputs


def _split(x: jax.Array, chunk_size: int) -> jax.Array:
    """[batch, seq, ...] -> [chunks, batch, chunk_size, ...]."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk_size, *x.shape[2:]), 1, 0)


def _join(x: jax.Array) -> jax.Array:
    """[chunks, batch, chunk_size, ...] -> [batch, seq, ...]."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def _nothing() -> LossSums:
    return LossSums(*(jnp.zeros((), jnp.float32) for _ in LossSums._fields))


def _add(a: LossSums, b: LossSums) -> LossSums:
    return LossSums(*(x + y for x, y in zip(a, b, strict=True)))
