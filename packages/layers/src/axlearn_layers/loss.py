"""Cross entropy of an output head, without ever holding the logits of all tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_core.module import Module
from axlearn_core.parallel import constrain, constrain_weight, parts
from axlearn_layers.targets import Targets, check_targets, wanted

Carry = TypeVar("Carry")
T = TypeVar("T")


class LossSums(NamedTuple):
    """Sums over all tokens, each [] float32 and weighted by token. Only `total` has gradients."""

    total: jax.Array  # cross entropy and z-loss
    cross_entropy: jax.Array
    z_loss: jax.Array  # scaled
    correct: jax.Array  # tokens whose (likeliest) target has the highest logit


class TokenLoss(Module):
    """The loss of a model's tokens, from the vectors and the table of its output head."""

    class Config(Module.Config):
        """A loss's fields."""

    def forward(
        self,
        hidden: jax.Array,
        table: jax.Array,
        targets: Targets,
        weights: jax.Array,
        logit_cap: float | None = None,
    ) -> jax.Array:
        """Returns the weighted sum of all tokens' losses, [] float32, and adds summaries.

        Args:
            hidden: [batch, seq, dim].
            table: [vocab_size, dim].
            targets: [batch, seq] int, or `SoftTargets`, which get no gradient.
            weights: [batch, seq], 0 for tokens that do not count.
            logit_cap: The model's, see `soft_cap`.
        """
        raise NotImplementedError(type(self))


class LinearCrossEntropy(TokenLoss):
    """Sum_t w_t * (sum_v q_tv (lse_t - logit_tv) + z * lse_t^2), with logits = hidden @ table^T.

    lse is the log of the summed exponentials; z pulls it towards 0 (z-loss, arXiv:2204.02311). q is
    1 at the target, or a distribution p, such as a teacher's (arXiv:1503.02531). Smoothed
    (arXiv:1512.00567) it is (1 - e) p_v + e / vocab_size * sum(p). Logits may be soft-capped
    first. The result is exact; see `linear_cross_entropy` for how it is computed.

    A temperature of the teacher is part of its probabilities, softmax(logits / T); the paper's
    student has it too, which is to divide `hidden` by T and multiply the loss by T^2.
    """

    class Config(TokenLoss.Config):
        z_loss_scale: float = 0.0  # PaLM takes 1e-4
        label_smoothing: float = 0.0  # e, in [0, 1)
        # Tokens of each sequence whose logits exist at one time: batch * chunk_size * vocab_size
        # float32 numbers. Smaller needs less memory, larger is faster on accelerators.
        chunk_size: int = 128

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        if not 0 <= self.config.label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing (={self.config.label_smoothing}) must be at least 0 and below 1"
            )

    def forward(
        self,
        hidden: jax.Array,
        table: jax.Array,
        targets: Targets,
        weights: jax.Array,
        logit_cap: float | None = None,
    ) -> jax.Array:
        cfg = self.config
        check_targets(targets, weights)
        shape = LossShape(cfg.z_loss_scale, cfg.label_smoothing, logit_cap)
        sums = linear_cross_entropy(hidden, table, targets, weights, cfg.chunk_size, shape)
        count = jnp.maximum(weights.sum(), 1)
        self.add_summary("cross_entropy", sums.cross_entropy / count)
        self.add_summary("accuracy", sums.correct / count)
        if cfg.z_loss_scale:
            self.add_summary("z_loss", sums.z_loss / count)
        return sums.total


class LossShape(NamedTuple):
    """What the loss of a token is, besides its cross entropy."""

    z_loss_scale: float = 0.0
    label_smoothing: float = 0.0
    logit_cap: float | None = None


def soft_cap(logits: jax.Array, cap: float | None) -> jax.Array:
    """Returns cap * tanh(logits / cap), None caps nothing (Gemma 2, arXiv:2408.00118)."""
    return logits if cap is None else cap * jnp.tanh(logits / cap)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def linear_cross_entropy(
    hidden: jax.Array,
    table: jax.Array,
    targets: Targets,
    weights: jax.Array,
    chunk_size: int,
    shape: LossShape,
) -> LossSums:
    """Computes the loss of a linear output head; see `LinearCrossEntropy`.

    Logits are made for `chunk_size` tokens of every sequence at a time. When differentiated, the
    gradients of `hidden` and `table` are made in the forward pass, while the chunk's logits
    exist, so that no product is computed twice (arXiv:2410.10989).

    On a mesh each device walks through chunks of the tokens that it has, sums the gradient of
    `table` over them, and only then adds up with others; `table` is gathered once.
    """
    cast_table = _gathered(table, hidden)

    def step(sums: LossSums, chunk: _Tokens) -> tuple[LossSums, None]:
        added, _ = _chunk_loss(chunk, cast_table, shape)
        return _add(sums, added), None

    def of_part(tokens: _Tokens) -> LossSums:
        return _over_chunks(step, _nothing(), tokens, chunk_size)[0]

    return _sum_parts(_over_parts(of_part)(_into_parts(_Tokens(hidden, targets, weights))))


def _loss_with_gradients(
    hidden: jax.Array,
    table: jax.Array,
    targets: Targets,
    weights: jax.Array,
    chunk_size: int,
    shape: LossShape,
) -> tuple[LossSums, tuple[jax.Array, jax.Array]]:
    cast_table = _gathered(table, hidden)

    def step(
        carry: tuple[LossSums, jax.Array], chunk: _Tokens
    ) -> tuple[tuple[LossSums, jax.Array], jax.Array]:
        sums, table_gradient = carry
        added, logit_gradient = _chunk_loss(chunk, cast_table, shape)
        gradient = logit_gradient.astype(hidden.dtype)
        # As [dim, vocab_size], so that no compiler transposes the chunk's large gradient.
        table_gradient += jnp.einsum(
            "bcd,bcv->dv", chunk.hidden, gradient, preferred_element_type=jnp.float32
        )
        return (_add(sums, added), table_gradient), jnp.einsum("bcv,vd->bcd", gradient, cast_table)

    def of_part(tokens: _Tokens) -> tuple[tuple[LossSums, jax.Array], jax.Array]:
        start = (_nothing(), jnp.zeros(table.shape[::-1], jnp.float32))
        return _over_chunks(step, start, tokens, chunk_size)

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
    chunk_size: int,
    shape: LossShape,
    gradients: tuple[jax.Array, jax.Array],
    cotangents: LossSums,
) -> tuple[jax.Array, jax.Array, None, None]:
    hidden, table = gradients
    outer = cotangents.total
    return hidden * outer.astype(hidden.dtype), table * outer.astype(table.dtype), None, None


linear_cross_entropy.defvjp(_loss_with_gradients, _scale_gradients)


class _Tokens(NamedTuple):
    hidden: jax.Array  # [batch, tokens, dim]
    targets: Targets  # [batch, tokens], or soft
    weights: jax.Array  # [batch, tokens]


def _chunk_loss(chunk: _Tokens, table: jax.Array, shape: LossShape) -> tuple[LossSums, jax.Array]:
    """Returns the loss of some tokens and its gradient by the logits, [batch, tokens, vocab].

    The gradient costs nothing where it is not used.
    """
    logits = soft_cap(
        jnp.einsum("bcd,vd->bcv", chunk.hidden, table, preferred_element_type=jnp.float32),
        shape.logit_cap,
    )
    weights = chunk.weights[..., None].astype(jnp.float32)
    highest = logits.max(axis=-1, keepdims=True)
    exponentials = jnp.exp(logits - highest)
    partition = exponentials.sum(axis=-1, keepdims=True)
    log_partition = jnp.log(partition) + highest
    mass, expected_logit, likeliest_logit, probabilities = wanted(chunk.targets, logits)

    smoothing, z_loss_scale = shape.label_smoothing, shape.z_loss_scale
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
    if shape.logit_cap is not None:
        gradient *= 1 - (logits / shape.logit_cap) ** 2  # tanh' = 1 - tanh^2
    return sums, gradient


def _gathered(table: jax.Array, hidden: jax.Array) -> jax.Array:
    return constrain_weight(table.astype(hidden.dtype), "vocab", "embed")


def _into_parts(tokens: _Tokens) -> _Tokens:
    """[batch, seq, ...] -> [batch parts, seq parts, batch / parts, seq / parts, ...]."""
    batch, seq = tokens.weights.shape
    rows, columns = parts("batch", batch), parts("seq", seq)

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
