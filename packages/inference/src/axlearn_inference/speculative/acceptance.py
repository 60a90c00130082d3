"""Which proposed tokens stay, so that what stays has the distribution of the target."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from axlearn_inference.sampling import Rules, adjusted, chosen_by, keep_likely

# What chance decides at one place of a text; each decision has a key of its own.
PROPOSE, ACCEPT, REPLACE = 1, 2, 3


class Penalized(NamedTuple):
    """What penalties need to know of each text, or of each of its next places."""

    in_prompt: jax.Array  # [..., vocab] bool, ids that the prompt holds
    counts: jax.Array  # [..., vocab] int32, how often the text holds each id


class Accepted(NamedTuple):
    """What a step adds to each text."""

    tokens: jax.Array  # [batch, k + 1] int32, of which the first `lengths` are the text's
    lengths: jax.Array  # [batch] int32, from 1 to k + 1: the accepted ones, and one of the target


def probabilities(
    logits: jax.Array,
    rules: Rules,
    penalized: Penalized | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Returns what `draw` draws from, [batch, vocab] float32: all weight on one id if greedy."""
    in_prompt, counts = (None, None) if penalized is None else penalized
    scores = adjusted(logits, rules, in_prompt=in_prompt, counts=counts, mask=mask)
    greedy = jax.nn.one_hot(jnp.argmax(scores, axis=-1), scores.shape[-1])

    def by_chance() -> jax.Array:
        warm = jnp.maximum(rules.temperature, 1e-6)[:, None]
        sampled = jax.nn.softmax(keep_likely(scores / warm, rules), axis=-1)
        return jnp.where(rules.temperature[:, None] == 0, greedy, sampled)

    weights: jax.Array = jax.lax.cond(jnp.any(rules.temperature > 0), by_chance, lambda: greedy)
    return weights


def accept(
    proposed: jax.Array,
    draft: jax.Array,
    target: jax.Array,
    seed: jax.Array,
    made: jax.Array,
) -> Accepted:
    """Accepts a beginning of what is proposed, and draws one token more.

    Modified rejection sampling (arXiv:2211.17192, 2302.01318). With p of the target, q of the
    draft, x drawn from q, at each place in turn:

    x is accepted with probability min(1, p(x) / q(x));
    the first that is not is replaced by one drawn from max(0, p - q), normalized.

    If all are accepted, one more is drawn from p. So each token has the distribution p, for any q.

    Args:
        proposed: [batch, k] int32, x.
        draft: [batch, k, vocab], q.
        target: [batch, k + 1, vocab], p.
        seed: [batch] uint32.
        made: [batch] int, how many tokens the text has: with its seed, all that chance depends
            on.
    """
    k = proposed.shape[1]
    places = made[:, None] + jnp.arange(k)
    chance = jax.vmap(jax.vmap(jax.random.uniform))(keys(seed[:, None], places, ACCEPT))
    p, q = (
        jnp.take_along_axis(x[:, :k], proposed[..., None], axis=-1)[..., 0] for x in (target, draft)
    )
    stays = jnp.cumprod(chance * q < p, axis=1)
    count = jnp.sum(stays, axis=1).astype(jnp.int32)

    at = count[:, None, None]
    p = jnp.take_along_axis(target, at, axis=1)[:, 0]
    q = jnp.take_along_axis(draft, at, axis=1, mode="fill", fill_value=0)[:, 0]  # none at k
    rest = jnp.maximum(p - q, 0)
    # Where p equals q, rounding may reject, and leave nothing to draw from.
    rest = jnp.where(jnp.any(rest > 0, axis=-1, keepdims=True), rest, p)
    replaced = categorical(keys(seed, made + count, REPLACE), rest)
    tokens = jnp.pad(proposed, ((0, 0), (0, 1)))
    tokens = jnp.where(jnp.arange(k + 1) == count[:, None], replaced[:, None], tokens)
    return Accepted(tokens, count + 1)


def categorical(keys: jax.Array, probabilities: jax.Array) -> jax.Array:
    """Draws an id per row, [batch] int32."""
    return chosen_by(jax.vmap(jax.random.uniform)(keys), jnp.log(probabilities))


def keys(seed: jax.Array, index: jax.Array, decision: int) -> jax.Array:
    """Returns the key of a decision at place `index` of each text, of the arguments' shape.

    A place that is rejected is decided again in the next step with the same keys. What they gave
    there was thrown away without being looked at, so it is as good as new.
    """

    def one(seed: jax.Array, index: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), index), decision)

    seed, index = jnp.broadcast_arrays(seed, index)
    return jax.vmap(one)(seed.ravel(), index.ravel()).reshape(seed.shape)
