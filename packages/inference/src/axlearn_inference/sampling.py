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
    greedy = jnp.argmax(scores, axis=-1)

    def chance(seed: jax.Array, index: jax.Array, row: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), index)
        return jax.random.categorical(key, row)

    filtered = keep_likely(scores / jnp.maximum(rules.temperature, 1e-6)[:, None], rules)
    drawn = jax.vmap(chance)(rules.seed, index, filtered)
    token = jnp.where(rules.temperature == 0, greedy, drawn).astype(jnp.int32)
    logprobs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    top_logprobs, top_tokens = jax.lax.top_k(logprobs, min(TOP, logits.shape[-1]))
    chosen = jnp.take_along_axis(logprobs, token[:, None], axis=-1)[:, 0]
    return Drawn(token, chosen, top_tokens.astype(jnp.int32), top_logprobs)


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
        ids = jnp.arange(scores.shape[-1])
        allowed = (mask[:, ids // 32] >> (ids % 32)) & 1
        scores = jnp.where(allowed == 1, scores, -jnp.inf)
    return scores


def keep_likely(scores: jax.Array, rules: Rules) -> jax.Array:
    """Returns the scores, and -inf for ids that top-k, top-p or min-p leave out.

    Top-p counts what top-k leaves. The likeliest id always stays.
    """
    ordered = jnp.sort(scores, axis=-1, descending=True)
    rank = jnp.arange(scores.shape[-1])
    ordered = jnp.where(rank < rules.top_k[:, None], ordered, -jnp.inf)
    probabilities = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    keep = before < rules.top_p[:, None]
    keep &= probabilities >= rules.min_p[:, None] * probabilities[:, :1]
    keep &= rank < rules.top_k[:, None]
    lowest = jnp.min(jnp.where(keep, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(scores < lowest, -jnp.inf, scores)
