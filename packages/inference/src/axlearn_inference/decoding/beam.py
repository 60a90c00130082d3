"""Beam search: the likeliest texts, as far as a few beginnings at a time can find them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from axlearn_core.errors import UserError
from axlearn_core.module.context import Tree
from axlearn_inference.decoding.programs import Programs, bucket, padded, programs_of
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import FinishReason, Request
from axlearn_inference.text import TextStream


class Hypothesis(NamedTuple):
    """A text that a beam search found."""

    ids: tuple[int, ...]  # with the end id, if there is one
    logprobs: tuple[float, ...]  # of each, in nats
    score: float  # the sum of these / length ** length_penalty
    finish: FinishReason
    text: str  # "" without a tokenizer


class _Beam(NamedTuple):
    """A beginning."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


class _Candidates(NamedTuple):
    """Beginnings that are one id longer, [any] each, the likeliest first."""

    parent: jax.Array  # which beam it continues
    token: jax.Array
    logprob: jax.Array  # of the token; -inf where there is no such beam


def beam_search(
    model: LanguageModel,
    prompt: Sequence[int],
    *,
    beams: int,
    max_tokens: int,
    end_ids: Sequence[int] = (),
    length_penalty: float = 1.0,
) -> list[Hypothesis]:
    """Returns the best continuations of a prompt, the best one first.

    At each step the `beams` likeliest beginnings go on. The score of a text of n ids, an end id
    among them, is sum(log p) / n ** length_penalty (arXiv:1609.08144 divides by
    ((5 + n) / 6) ** length_penalty). The search ends when no beginning can beat what has ended.

    Args:
        model: gives the probabilities.
        prompt: at least one id.
        beams: how many beginnings to keep, and how many texts to return at most.
        max_tokens: of a text.
        end_ids: after which a text has ended.
        length_penalty: above 0 prefers longer texts; 0 is the likeliest text.

    Raises:
        UserError: for a number out of range.
    """
    if beams < 1:
        raise UserError(f"beams (={beams}) must be at least 1")
    model.check(Request(tuple(prompt), max_tokens))

    def score(beam: _Beam, length: int | None = None) -> float:
        return float(sum(beam.logprobs) / (length or len(beam.ids)) ** length_penalty)

    def hopeless(live: Sequence[_Beam], ended: Sequence[_Beam]) -> bool:
        """Whether the best that can become of a beginning is worse than what there is."""
        if not live or len(ended) < beams:
            return not live
        length = max_tokens if length_penalty > 0 else len(live[0].ids) + 1
        return score(live[0], length) <= sorted(map(score, ended))[-beams]

    ids, lengths = padded([prompt], model.max_length)
    before = model.before(prompt)
    static = {
        "programs": programs_of(model),
        "beams": beams,
        "count": beams * (1 + len(end_ids)),  # so that enough of them have not ended
        "max_length": bucket(len(before) + max_tokens),
    }
    cache, candidates = _begin(model.variables, ids, lengths, **static)
    live, parents, ended = _sorted_out([_Beam()], candidates, beams, end_ids)
    while not hopeless(live, ended) and len(live[0].ids) < max_tokens:
        tokens, totals = np.zeros(beams, np.int32), np.full(beams, -np.inf, np.float32)
        tokens[: len(live)] = [beam.ids[-1] for beam in live]
        totals[: len(live)] = [sum(beam.logprobs) for beam in live]
        cache, candidates = _step(model.variables, cache, tokens, parents, totals, **static)
        live, parents, more = _sorted_out(live, candidates, beams, end_ids)
        ended += more
    cut = [beam for beam in live if len(beam.ids) == max_tokens]
    return [
        Hypothesis(*beam, score(beam), *_ending(model, before, beam, end_ids))
        for beam in sorted([*ended, *cut], key=score, reverse=True)[:beams]
    ]


def _sorted_out(
    live: Sequence[_Beam], candidates: _Candidates, beams: int, end_ids: Sequence[int]
) -> tuple[list[_Beam], NDArray[np.int32], list[_Beam]]:
    """Returns the beams that go on, which beam each continues, and those that have ended."""
    kept: list[_Beam] = []
    ended: list[_Beam] = []
    parents = np.zeros(beams, np.int32)
    for parent, token, logprob in zip(*(np.asarray(x).tolist() for x in candidates), strict=True):
        if len(kept) == beams or logprob == -np.inf:
            break
        before = live[parent]
        beam = _Beam((*before.ids, token), (*before.logprobs, logprob))
        if token in end_ids:
            ended.append(beam)
        else:
            parents[len(kept)] = parent
            kept.append(beam)
    return kept, parents, ended


def _ending(
    model: LanguageModel, before: Sequence[int], beam: _Beam, end_ids: Sequence[int]
) -> tuple[FinishReason, str]:
    """Returns why a text ends, and the text."""
    stopped = beam.ids[-1] in end_ids
    if model.tokenizer is None:
        return "stop" if stopped else "length", ""
    stream = TextStream(model.tokenizer, before)
    text = "".join(map(stream.feed, beam.ids[:-1] if stopped else beam.ids)) + stream.flush()
    return "stop" if stopped else "length", text


_STATIC = ("programs", "beams", "count", "max_length")


@functools.partial(jax.jit, static_argnames=_STATIC)
def _begin(
    variables: Tree,
    ids: jax.Array,
    lengths: jax.Array,
    *,
    programs: Programs,
    beams: int,
    count: int,
    max_length: int,
) -> tuple[Tree, _Candidates]:
    logits, cache = programs.prefill(variables, ids, lengths, max_length)
    candidates = _likeliest(logits, jnp.zeros(1), count)
    return programs.rows(variables, cache, jnp.zeros(beams, jnp.int32), max_length), candidates


@functools.partial(jax.jit, static_argnames=_STATIC, donate_argnames="cache")
def _step(
    variables: Tree,
    cache: Tree,
    tokens: jax.Array,
    parents: jax.Array,
    totals: jax.Array,
    *,
    programs: Programs,
    beams: int,
    count: int,
    max_length: int,
) -> tuple[Tree, _Candidates]:
    cache = programs.rows(variables, cache, parents, max_length)
    logits, cache = programs.read(variables, tokens[:, None], cache)
    return cache, _likeliest(logits, totals, count)


def _likeliest(logits: jax.Array, totals: jax.Array, count: int) -> _Candidates:
    """Returns the best of all continuations of beams by one id.

    Args:
        logits: [beams, vocab].
        totals: [beams], the log-probability of each beam; -inf is none.
        count: how many.
    """
    logprobs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    sums = (totals[:, None] + logprobs).reshape(-1)
    values, at = jax.lax.top_k(sums, min(count, sums.size))
    parent, token = jnp.divmod(at, logits.shape[-1])
    own = jnp.where(values == -jnp.inf, -jnp.inf, logprobs.reshape(-1)[at])
    return _Candidates(parent, token, own)
