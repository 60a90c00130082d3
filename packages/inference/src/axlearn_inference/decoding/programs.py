"""The compiled programs of decoding: one reads prompts, the other goes on from there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from axlearn_core.module import Module, functional
from axlearn_core.module.context import Tree
from axlearn_core.parallel import Placement, placing
from axlearn_inference.caches.rows import check_rows_apart, row_axes, take_rows
from axlearn_inference.model import EncoderDecoding, Generating, LanguageModel
from axlearn_inference.sampling import Rules, draw

CHUNK = 16
"""Steps per call of the compiled loop, at most: many for speed, few to see tokens come."""

_SHORTEST = 16  # tokens; below it all lengths share a program


class Asked(NamedTuple):
    """What does not change while a batch of requests is decoded, a row each."""

    rules: Rules
    end_ids: jax.Array  # [batch, any] int32, -1 fills rows up
    in_prompt: jax.Array | None  # [batch, vocab] bool; None where no row penalises


class State(NamedTuple):
    """What a batch is between two steps."""

    cache: Tree  # of all tokens but the last
    token: jax.Array  # [batch] int32, the last one
    written: jax.Array  # [] int32, how many tokens each row has
    counts: jax.Array | None  # [batch, vocab] int32, how often each text holds each id


class Told(NamedTuple):
    """What is told of tokens, [..., batch] each; None is not asked for."""

    token: jax.Array
    logprob: jax.Array | None
    top_tokens: jax.Array | None  # [..., batch, TOP]
    top_logprobs: jax.Array | None


def bucket(length: int) -> int:
    """Returns the next of few lengths, at most a quarter longer: programs are compiled for each."""
    if length <= _SHORTEST:
        return _SHORTEST
    step = 1 << (length - 1).bit_length() - 3
    return -(-length // step) * step


def padded(
    prompts: Sequence[Sequence[int]], max_length: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Returns ids [rows, seq], filled up at their end to a `bucket`, and how many count.

    Args:
        prompts: any number of ids each.
        max_length: of what the model reads; None is any.
    """
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    width = bucket(int(lengths.max()))
    if max_length is not None:
        width = min(width, max_length)
    ids = np.zeros((len(prompts), width), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    return ids, lengths


class Programs:
    """Compiles what decoding runs, for one model."""

    def __init__(self, module: Generating, dtype: str, placement: Placement | None):
        self._module, self._dtype, self._placement = module, dtype, placement
        self.begin = jax.jit(self._begin, static_argnames=("max_length", "logprobs", "top"))
        self.go_on = jax.jit(
            self._go_on, static_argnames=("logprobs", "top"), donate_argnames="state"
        )
        # A step in two halves, so that masks are made while the model computes.
        self.ahead = jax.jit(self._ahead, donate_argnames="state")
        self.choose = jax.jit(
            self._drawn, static_argnames=("logprobs", "top"), donate_argnames="state"
        )

    def read(
        self, variables: Tree, ids: jax.Array, cache: Tree, lengths: jax.Array | None = None
    ) -> tuple[jax.Array, Tree]:
        """Returns scores [batch, vocab] after the last tokens that count, and the new cache."""
        inputs = {"input_ids": ids, "cache": cache, "lengths": lengths, "last_only": True}
        return self._call("extend", variables, inputs)

    def prefill(
        self, variables: Tree, ids: jax.Array, lengths: jax.Array, max_length: int
    ) -> tuple[jax.Array, Tree]:
        """Reads prompts, [rows, seq] int padded at their end, into a new cache.

        Args:
            variables: the model's.
            ids, lengths: the prompts, and how many ids of each count.
            max_length: of what a text continues and the text, in tokens.

        Returns:
            Scores [rows, vocab] of the first tokens, and the cache.
        """
        count, width = ids.shape
        if isinstance(self._module, EncoderDecoding):
            cache = self._empty(count, max_length)
            inputs = {"prompt_ids": ids, "cache": cache, "lengths": lengths}
            return self._call("prefill", variables, inputs)
        cache = self._empty(count, max(max_length, width))
        return self.read(variables, ids, cache, lengths)

    def rows(self, variables: Tree, cache: Tree, rows: jax.Array, max_length: int) -> Tree:
        """Returns a cache whose row i is row `rows[i]` of one that `prefill` has made.

        Raises:
            ConfigError: for a cache that does not keep its rows apart.
        """

        def make_cache(count: int) -> Tree:
            if isinstance(self._module, EncoderDecoding):  # which adds what it has read to it
                ids = jnp.zeros((count, 1), jnp.int32)
                return self.prefill(variables, ids, jnp.ones(count, jnp.int32), max_length)[1]
            return self._module.init_cache(count, max_length, self._dtype)

        axes = row_axes(make_cache)
        check_rows_apart(axes)
        return take_rows(cache, axes, rows)

    def _call(self, method: str, variables: Tree, inputs: dict[str, Any]) -> tuple[jax.Array, Tree]:
        """Returns scores [batch, vocab] and the new cache."""
        with self._placed():
            (logits, cache), _ = functional(
                cast(Module, self._module),
                state=variables,
                prng_key=None,
                inputs=inputs,
                method=method,
            )
        return logits[:, 0], cache

    def _empty(self, rows: int, max_length: int) -> Tree:
        with self._placed():
            return self._module.init_cache(rows, max_length, self._dtype)

    def _placed(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._placement is None else placing(self._placement)

    def _begin(
        self,
        variables: Tree,
        ids: jax.Array,
        lengths: jax.Array,
        rows: jax.Array | None,
        asked: Asked,
        mask: jax.Array | None = None,
        *,
        max_length: int,
        logprobs: bool,
        top: bool,
    ) -> tuple[State, Told]:
        """Reads prompts and draws a first token for each row.

        Args:
            variables: the model's.
            ids, lengths: as `prefill` takes them.
            rows: [batch] int, which prompt each row continues; None is one row each.
            asked: of the rows.
            mask: which ids the first tokens may be, as `draw` takes it.
            max_length: as `prefill` takes it.
            logprobs: whether to tell the log-probabilities of tokens.
            top: whether to tell the likeliest tokens.
        """
        logits, cache = self.prefill(variables, ids, lengths, max_length)
        if rows is not None:
            logits, cache = logits[rows], self.rows(variables, cache, rows, max_length)
        counts = None if asked.in_prompt is None else jnp.zeros(logits.shape, jnp.int32)
        token = jnp.zeros(logits.shape[0], jnp.int32)
        state = State(cache, token, jnp.int32(0), counts)
        return self._drawn(logits, state, asked, mask, logprobs, top)

    def _go_on(
        self,
        variables: Tree,
        state: State,
        asked: Asked,
        ended: jax.Array,
        steps: jax.Array,
        *,
        logprobs: bool,
        top: bool,
    ) -> tuple[State, Told, jax.Array]:
        """Decodes until all rows have ended, or for some steps.

        Args:
            variables: the model's.
            state: as the call before returned it.
            asked: of the rows.
            ended: [batch] bool, rows of which nothing more is wanted.
            steps: [] int, at most CHUNK.
            logprobs, top: as for `_begin`.

        Returns:
            The new state, what is told of the tokens, [CHUNK, batch] each, and how many steps were
            made: the rest of CHUNK means nothing.
        """

        def step(state: State) -> tuple[State, Told]:
            logits, cache = self.read(variables, state.token[:, None], state.cache)
            return self._drawn(logits, state._replace(cache=cache), asked, None, logprobs, top)

        def goes_on(carry: tuple[State, Told, jax.Array, jax.Array]) -> jax.Array:
            _, _, ended, made = carry
            return (made < steps) & ~ended.all()

        def body(carry: Any) -> Any:
            state, told, ended, made = carry
            state, now = step(state)
            told = jax.tree.map(lambda all_, one: all_.at[made].set(one), told, now)
            ended |= (state.token[:, None] == asked.end_ids).any(axis=-1)
            return state, told, ended, made + 1

        empty = jax.tree.map(
            lambda x: jnp.zeros((CHUNK, *x.shape), x.dtype), jax.eval_shape(step, state)[1]
        )
        state, told, _, made = jax.lax.while_loop(
            goes_on, body, (state, empty, ended, jnp.int32(0))
        )
        return state, told, made

    def _ahead(self, variables: Tree, state: State) -> tuple[jax.Array, State]:
        """Returns scores [batch, vocab] of what follows, from which `choose` draws."""
        logits, cache = self.read(variables, state.token[:, None], state.cache)
        return logits, state._replace(cache=cache)

    def _drawn(
        self,
        logits: jax.Array,
        state: State,
        asked: Asked,
        mask: jax.Array | None,
        logprobs: bool,
        top: bool,
    ) -> tuple[State, Told]:
        index, counts = jnp.broadcast_to(state.written, state.token.shape), state.counts
        drawn = draw(
            logits, asked.rules, index, in_prompt=asked.in_prompt, counts=counts, mask=mask
        )
        if counts is not None:
            counts = counts.at[jnp.arange(counts.shape[0]), drawn.token].add(1)
        told = Told(
            drawn.token,
            drawn.logprob if logprobs else None,
            drawn.top_tokens if top else None,
            drawn.top_logprobs if top else None,
        )
        return State(state.cache, drawn.token, state.written + 1, counts), told


_programs: WeakKeyDictionary[LanguageModel, Programs] = WeakKeyDictionary()


def programs_of(model: LanguageModel) -> Programs:
    """Returns the programs of a model, the same for every call, so that each compiles once."""
    if model not in _programs:
        _programs[model] = Programs(model.module, model.dtype, model.placement)
    return _programs[model]
