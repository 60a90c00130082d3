"""Decodes a batch of requests together, each by its own rules, from the first to the last token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.errors import UserError
from axlearn_inference.decoding.programs import CHUNK, Asked, Told, bucket, padded, programs_of
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import FinishReason, Request, Token
from axlearn_inference.sampling import TOP, rules
from axlearn_inference.text import TextStream


@dataclass(frozen=True)
class Completion:
    """What came of a request."""

    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        """The text up to an end id or a stop string; "" without a tokenizer."""
        return "".join(token.text for token in self.tokens)

    @property
    def ids(self) -> list[int]:
        """All ids, an end id among them."""
        return [token.id for token in self.tokens]

    @property
    def finish(self) -> FinishReason | None:
        """Why it ended."""
        return self.tokens[-1].finish


def complete(model: LanguageModel, requests: Sequence[Request]) -> list[Completion]:
    """Decodes requests to their ends; see `generate`."""
    tokens: list[list[Token]] = [[] for _ in requests]
    for index, token in generate(model, requests):
        tokens[index].append(token)
    return [Completion(tuple(each)) for each in tokens]


def generate(model: LanguageModel, requests: Sequence[Request]) -> Iterator[tuple[int, Token]]:
    """Decodes requests together; yields (which request, its next token) as they come.

    All begin and step together (static batching), and rows that have ended wait for the others.
    Requests with the same prompt share its prefill. What a request gives depends neither on the
    others nor on their order, up to rounding: a compiler may add in another order for another
    number of rows.

    Raises:
        UserError: for what cannot be decoded this way.
    """
    if not requests:
        return
    rows = [_Row(index, request, model) for index, request in enumerate(requests)]
    programs, asked = programs_of(model), _asked(requests, model.vocab_size)
    options = {
        "logprobs": any(request.top_logprobs is not None for request in requests),
        "top": any(request.top_logprobs for request in requests),
    }
    prompts = list(dict.fromkeys(request.prompt for request in requests))
    ids, lengths = padded(prompts)
    which = np.array([prompts.index(request.prompt) for request in requests], np.int32)
    shared = len(prompts) < len(requests)
    length = max(len(request.prompt) + request.max_tokens for request in requests)
    state, told = programs.begin(
        model.variables,
        ids,
        lengths,
        which if shared else None,
        asked,
        max_length=bucket(max(length, ids.shape[1])),
        **options,
    )
    yield from _next(rows, [jax.device_get(told)])
    steps = 1
    while left := [row.left for row in rows if row.finish is None]:
        steps = min(2 * steps, CHUNK)
        state, told, made = programs.go_on(
            model.variables,
            state,
            asked,
            np.array([row.finish is not None for row in rows]),
            np.int32(min(steps, max(left))),
            **options,
        )
        told, made = jax.device_get((told, made))
        yield from _next(rows, [jax.tree.map(lambda x, i=i: x[i], told) for i in range(made)])


def _next(rows: Sequence[_Row], steps: Sequence[Told]) -> Iterator[tuple[int, Token]]:
    """Yields the tokens of rows that have not ended, step by step."""
    for told in steps:
        for row in rows:
            if row.finish is None:
                yield row.index, row.token(told)


class _Row:
    """A request while it is decoded."""

    def __init__(self, index: int, request: Request, model: LanguageModel):
        _check(request, model)
        self.index, self.request = index, request
        self.left = request.max_tokens
        self.finish: FinishReason | None = None
        tokenizer = model.tokenizer
        self.text = (
            None if tokenizer is None else TextStream(tokenizer, request.prompt, request.stop)
        )

    def token(self, told: Told) -> Token:
        """Takes this row's part of what a step told."""
        i, top = self.index, self.request.top_logprobs
        token = int(told.token[i])
        logprob: float | None = None
        likeliest: tuple[tuple[int, float], ...] = ()
        if top is not None:
            assert told.logprob is not None
            logprob = float(told.logprob[i])
        if top:
            assert told.top_tokens is not None and told.top_logprobs is not None
            pairs = zip(told.top_tokens[i].tolist(), told.top_logprobs[i].tolist(), strict=True)
            likeliest = tuple(pairs)[:top]
        text = self._read(token)
        return Token(token, logprob, likeliest, self.finish, text)

    def _read(self, token: int) -> str:
        """Returns what the token adds to the text, and notices the end."""
        self.left -= 1
        ends = token in self.request.end_ids
        text = "" if self.text is None or ends else self.text.feed(token)
        if ends or (self.text is not None and self.text.stopped):
            self.finish = "stop"
        elif self.left == 0:
            self.finish = "length"
        if self.finish and self.text is not None:
            text += self.text.flush()
        return text


def _check(request: Request, model: LanguageModel) -> None:
    strange = [token for token in request.prompt if not 0 <= token < model.vocab_size]
    if strange:
        raise UserError(f"ids must be from 0 to {model.vocab_size - 1}, got {strange[0]}")
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= TOP:
        raise UserError(f"top_logprobs (={request.top_logprobs}) must be from 0 to {TOP}")
    if request.stop and model.tokenizer is None:
        raise UserError("a model without a tokenizer writes no text that could hold a stop string")
    for name in ("adapter", "constraint"):
        if getattr(request, name) is not None:
            raise UserError(f"generate does not know what to do with a request's {name}")


def _asked(requests: Sequence[Request], vocab_size: int) -> Asked:
    samplings = [request.sampling for request in requests]
    longest = max(len(request.end_ids) for request in requests)
    end_ids = np.full((len(requests), max(longest, 1)), -1, np.int32)
    for row, request in zip(end_ids, requests, strict=True):
        row[: len(request.end_ids)] = request.end_ids
    penalised = any(
        (each.repetition_penalty, each.presence_penalty, each.frequency_penalty) != (1.0, 0.0, 0.0)
        for each in samplings
    )
    in_prompt = None
    if penalised:
        seen = np.zeros((len(requests), vocab_size), bool)
        for row, request in zip(seen, requests, strict=True):
            row[list(request.prompt)] = True
        in_prompt = jnp.asarray(seen)
    return Asked(rules(samplings, vocab_size), jnp.asarray(end_ids), in_prompt)
