"""How likely a model finds given continuations."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.errors import UserError
from axlearn_core.module import Module, functional
from axlearn_core.module.context import Tree
from axlearn_core.parallel import placing
from axlearn_inference.model import LanguageModel

Pair = tuple[Sequence[int], Sequence[int]]
"""Ids of a context, at least one, and of what follows, at least one."""

# Longer texts are read in pieces of this length, so that scores of all their tokens, each as wide
# as the vocabulary, never have to fit into memory together.
_LONGEST = 256
_SHORTEST = 16


class Score(NamedTuple):
    """How likely a continuation is, given its context."""

    logprob: float  # in nats, of all of its tokens together
    is_greedy: bool  # whether each of them is the likeliest


def score(model: LanguageModel, pairs: Sequence[Pair], *, batch_size: int = 8) -> list[Score]:
    """Returns log p(continuation | context) of each pair.

    Pairs of about the same length are computed together, at one of few lengths.

    Raises:
        UserError: for an encoder-decoder, and pairs longer than the model's `max_length` plus one.
    """
    model.check_decoder_only("score")
    _check_lengths(model, pairs)
    order = sorted(range(len(pairs)), key=lambda i: -_length(pairs[i]))
    scores: list[Score] = [Score(0.0, True)] * len(pairs)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = [pairs[i] for i in batch]
        for i, found in zip(batch, _score_batch(model, rows, batch_size), strict=True):
            scores[i] = found
    return scores


def _check_lengths(model: LanguageModel, pairs: Sequence[Pair]) -> None:
    longest = max(map(_length, pairs), default=0) - 1  # of which nothing reads the last
    if model.max_length is not None and longest > model.max_length:
        raise UserError(
            f"{longest} tokens are more than a sequence of {model.name} has, at most "
            f"{model.max_length}: cut the beginning of the context off"
        )


def _length(pair: Pair) -> int:
    return len(pair[0]) + len(pair[1])


def _score_batch(model: LanguageModel, pairs: Sequence[Pair], batch_size: int) -> list[Score]:
    longest = max(_length(pair) - 1 for pair in pairs)
    rounded = max(_SHORTEST, 1 << (longest - 1).bit_length())
    rounded = min(rounded, model.max_length or rounded)
    piece = min(rounded, _LONGEST)
    ids = np.zeros((batch_size, rounded + 1), np.int32)
    lengths = np.ones(batch_size, np.int32)  # of inputs; rows without a pair have one token
    counts = np.zeros((batch_size, rounded), bool)
    for row, (context, continuation) in enumerate(pairs):
        whole = [*context, *continuation]
        ids[row, : len(whole)] = whole
        lengths[row] = len(whole) - 1
        counts[row, len(context) - 1 : len(whole) - 1] = True
    read = _reader(model)
    cache = model.module.init_cache(batch_size, rounded, model.dtype)
    logprobs, greedy = [], []
    for start in range(0, longest, piece):
        end = start + piece
        real = np.clip(lengths - start, 0, piece)
        found, cache = read(
            model.variables, ids[:, start:end], ids[:, start + 1 : end + 1], real, cache
        )
        logprobs.append(found[0])
        greedy.append(found[1])
    all_logprobs, all_greedy = jax.device_get((logprobs, greedy))
    counted = counts[:, : len(logprobs) * piece]
    totals = np.where(counted, np.concatenate(all_logprobs, axis=1), 0).sum(axis=1, dtype=float)
    likeliest = np.concatenate(all_greedy, axis=1) | ~counted
    return [Score(float(totals[row]), bool(likeliest[row].all())) for row in range(len(pairs))]


_readers: WeakKeyDictionary[LanguageModel, Any] = WeakKeyDictionary()


def _reader(model: LanguageModel) -> Any:
    """Returns the compiled program of a model, the same for every call."""
    if model not in _readers:
        module, placement = cast(Module, model.module), model.placement

        def read(
            variables: Tree, ids: jax.Array, targets: jax.Array, lengths: jax.Array, cache: Tree
        ) -> tuple[tuple[jax.Array, jax.Array], Tree]:
            """Returns each target's log-probability and whether it is likeliest, and the cache."""
            place = contextlib.nullcontext() if placement is None else placing(placement)
            inputs = {"input_ids": ids, "cache": cache, "lengths": lengths}
            with place:
                (logits, cache), _ = functional(
                    module, state=variables, prng_key=None, inputs=inputs, method="extend"
                )
            logits = logits.astype(jnp.float32)
            own = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
            total = jax.nn.logsumexp(logits, axis=-1)
            return (own - total, jnp.argmax(logits, axis=-1) == targets), cache

        _readers[model] = jax.jit(read, donate_argnames="cache")
    return _readers[model]
