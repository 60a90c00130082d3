"""Draws tokens, each row of a batch by its own rules, in one program for all rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_inference.request import Sampling

TOP = 20
"""How many of the likeliest tokens `draw` tells, at most."""

_BLOCK = 256  # ids


class Rules(NamedTuple):
    """`Sampling` of each row, [batch] each."""

    temperature: jax.Array
    top_k: jax.Array  # the vocabulary's size is all
    top_p: jax.Array
    min_p: jax.Array
    repetition_penalty: jax.Array
    presence_penalty: jax.Array
    frequency_penalty: jax.Array
    seed: jax.Array  # uint32


class Drawn(NamedTuple):
    """What was drawn. Log-probabilities are those of the scores that came in."""

    token: jax.Array  # [batch] int32
    logprob: jax.Array  # [batch] float32
    top_tokens: jax.Array  # [batch, TOP] int32, likeliest first
    top_logprobs: jax.Array  # [batch, TOP] float32


def rules(samplings: Sequence[Sampling], vocab_size: int) -> Rules:
    """Returns the rules of a batch's rows."""

    def column(name: str, dtype: type[np.generic]) -> jax.Array:
        return jnp.asarray(np.array([getattr(each, name) for each in samplings], dtype))

    top_k = [vocab_size if each.top_k is None else each.top_k for each in samplings]
    return Rules(
        temperature=column("temperature", np.float32),
        top_k=jnp.asarray(np.minimum(top_k, vocab_size).astype(np.int32)),
        top_p=column("top_p", np.float32),
        min_p=column("min_p", np.float32),
        repetition_penalty=column("repetition_penalty", np.float32),
        presence_penalty=column("presence_penalty", np.float32),
        frequency_penalty=column("frequency_penalty", np.float32),
        seed=jnp.asarray(np.array([each.seed % 2**32 for each in samplings], np.uint32)),
    )


def draw(
    logits: jax.Array,
    rules: Rules,
    index: jax.Array,
    *,
    in_prompt: jax.Array | None = None,
    counts: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> Drawn:
    """Draws a token per row.

    What no row's rules ask for, such as chance where all are greedy, is compiled and does not run.

    Args:
        logits: [batch, vocab] scores.
        rules: of each row.
        index: [batch] int, how many tokens of its text a row has: with its seed, all that chance
            depends on.
        in_prompt: [batch, vocab] bool, ids that prompts hold; None penalises none.
        counts: [batch, vocab] int, how often each text holds each id.
        mask: [batch, ceil(vocab / 32)] int32, which ids may be drawn; see `Matcher.fill_mask`.
    """
    scores = adjusted(logits, rules, in_prompt=in_prompt, counts=counts, mask=mask)
    greedy = jnp.argmax(scores, axis=-1).astype(jnp.int32)

    def by_chance() -> jax.Array:
        warm = jnp.maximum(rules.temperature, 1e-6)[:, None]
        drawn = chosen_by(_uniform(rules.seed, index), keep_likely(scores / warm, rules))
        return jnp.where(rules.temperature == 0, greedy, drawn)

    token = jax.lax.cond(jnp.any(rules.temperature > 0), by_chance, lambda: greedy)
    return with_log_probabilities(logits, token)


def with_log_probabilities(logits: jax.Array, token: jax.Array) -> Drawn:
    """Returns tokens [batch] that were drawn after scores [batch, vocab], and what these say."""
    logits = logits.astype(jnp.float32)
    total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    top_logits, top_tokens = jax.lax.top_k(logits, min(TOP, logits.shape[-1]))
    chosen = jnp.take_along_axis(logits, token[:, None], axis=-1) - total
    return Drawn(token, chosen[:, 0], top_tokens.astype(jnp.int32), top_logits - total)


def adjusted(
    logits: jax.Array,
    rules: Rules,
    *,
    in_prompt: jax.Array | None = None,
    counts: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Returns the scores, float32, with penalties, and -inf where the mask forbids an id."""
    scores = logits.astype(jnp.float32)
    if counts is not None:
        seen = counts > 0 if in_prompt is None else (counts > 0) | in_prompt
        penalty = rules.repetition_penalty[:, None]
        repeated = jnp.where(scores > 0, scores / penalty, scores * penalty)
        scores = jnp.where(seen, repeated, scores)
        scores -= rules.presence_penalty[:, None] * (counts > 0)
        scores -= rules.frequency_penalty[:, None] * counts
    if mask is not None:
        bits = (mask[:, :, None] >> jnp.arange(32)) & 1
        allowed = bits.reshape(mask.shape[0], -1)[:, : scores.shape[-1]]
        scores = jnp.where(allowed == 1, scores, -jnp.inf)
    return scores


def keep_likely(scores: jax.Array, rules: Rules) -> jax.Array:
    """Returns the scores, and -inf for ids that top-k, top-p or min-p leave out.

    An id stays if fewer than top_k are likelier; if of those, the ones that are likelier sum to
    less than top_p; and if it is at least min_p times as likely as the likeliest, which always
    stays. Of ids with the same score all stay or none.
    """
    vocab = scores.shape[-1]
    likely = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))  # relative to the likeliest

    def filtered() -> jax.Array:
        keys = _sortable(scores)
        lowest = _threshold(keys, jnp.ones_like(likely), rules.top_k.astype(jnp.float32))
        keep = keys >= lowest[:, None]
        left = jnp.where(keep, likely, 0.0)
        least = _threshold(keys, left, rules.top_p * left.sum(axis=-1))
        return keep & ((keys >= least[:, None]) | (rules.top_p == 1.0)[:, None])

    wanted = jnp.any(rules.top_k < vocab) | jnp.any(rules.top_p < 1.0)
    keep = jax.lax.cond(wanted, filtered, lambda: jnp.ones(scores.shape, bool))
    return jnp.where(keep & (likely >= rules.min_p[:, None]), scores, -jnp.inf)


def _sortable(x: jax.Array) -> jax.Array:
    """Returns int32 in the order of float32 numbers."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _threshold(keys: jax.Array, weights: jax.Array, limit: jax.Array) -> jax.Array:
    """Returns the least number, [batch], such that keys above it weigh less than the limit.

    By bisection: 32 passes over the vocabulary take a CPU a thirtieth of the time to sort it.
    """
    low = jnp.full(keys.shape[0], -(2**31), jnp.int32)
    high = jnp.full(keys.shape[0], 2**31 - 1, jnp.int32)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        enough = jnp.where(keys > middle[:, None], weights, 0.0).sum(axis=-1) < limit
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    found: jax.Array = jax.lax.fori_loop(0, 32, halve, (low, high))[0]
    return found


def _uniform(seed: jax.Array, index: jax.Array) -> jax.Array:
    """Returns a number from [0, 1) for each row."""

    def one(seed: jax.Array, index: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.key(seed), index))

    return jax.vmap(one)(seed, index)


def chosen_by(chance: jax.Array, scores: jax.Array) -> jax.Array:
    """Returns the id at which the summed probabilities pass a number from [0, 1).

    One random number per row in place of one per id, which would cost more than all else here.
    The sum is made in two steps, of blocks and within the block that is passed.
    """
    rows, vocab = scores.shape
    probabilities = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    blocks = jnp.pad(probabilities, ((0, 0), (0, -vocab % _BLOCK))).reshape(rows, -1, _BLOCK)
    sums = blocks.sum(axis=-1)
    block, rest = _passed(sums, chance * sums.sum(axis=-1))
    within = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    return block * _BLOCK + _passed(within, rest)[0]


def _passed(weights: jax.Array, amount: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns where the running sum passes an amount, and what is left of it there.

    What weighs nothing is never chosen, however the sums are rounded.
    """
    after = jnp.cumsum(weights, axis=-1)
    passed = (after > amount[:, None]) & (weights > 0)
    last = weights.shape[-1] - 1 - jnp.argmax(weights[:, ::-1] > 0, axis=-1)
    at = jnp.where(passed.any(axis=-1), jnp.argmax(passed, axis=-1), last).astype(jnp.int32)
    before = jnp.take_along_axis(after - weights, at[:, None], axis=-1)[:, 0]
    return at, amount - before
