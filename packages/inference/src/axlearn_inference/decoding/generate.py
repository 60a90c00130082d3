"""Decodes a batch of requests together, each by its own rules, from the first to the last token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from axlearn_core.errors import UserError
from axlearn_inference.decoding.programs import CHUNK, Asked, Told, bucket, padded, programs_of
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import FinishReason, Request, Token
from axlearn_inference.sampling import rules
from axlearn_inference.text import TextStream

if TYPE_CHECKING:
    from axlearn_inference.speculative import SpeculativeDecoder


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


def complete(
    model: LanguageModel,
    requests: Sequence[Request],
    speculative: SpeculativeDecoder | None = None,
) -> list[Completion]:
    """Decodes requests to their ends; see `generate`."""
    tokens: list[list[Token]] = [[] for _ in requests]
    for index, token in generate(model, requests, speculative):
        tokens[index].append(token)
    return [Completion(tuple(each)) for each in tokens]


def generate(
    model: LanguageModel,
    requests: Sequence[Request],
    speculative: SpeculativeDecoder | None = None,
) -> Iterator[tuple[int, Token]]:
    """Decodes requests together; yields (which request, its next token) as they come.

    All begin and step together (static batching), and rows that have ended wait for the others.
    Requests with the same prompt share its prefill. What a request gives depends neither on the
    others nor on their order, up to rounding: a compiler may add in another order for another
    number of rows.

    Args:
        model: decodes.
        requests: of any kinds.
        speculative: of the model with a draft, which then proposes what follows.

    Raises:
        UserError: for what cannot be decoded this way.
    """
    if not requests:
        return
    rows = [_Row(index, request, model) for index, request in enumerate(requests)]
    programs, asked = programs_of(model), _asked(requests, model)
    options = {
        "logprobs": any(request.top_logprobs is not None for request in requests),
        "top": any(request.top_logprobs for request in requests),
    }
    if speculative is not None:
        yield from _speculated(rows, speculative, asked, options)
        return
    prompts = list(dict.fromkeys(request.prompt for request in requests))
    ids, lengths = padded(prompts, model.max_length)
    which = np.array([prompts.index(request.prompt) for request in requests], np.int32)
    shared = len(prompts) < len(requests)
    length = max(len(row.before) + row.request.max_tokens for row in rows)
    state, told = programs.begin(
        model.variables,
        ids,
        lengths,
        which if shared else None,
        asked,
        _mask(rows, model.vocab_size),
        max_length=bucket(length),
        **options,
    )
    yield from _next(rows, [jax.device_get(told)])
    if any(row.matcher is not None for row in rows):
        while any(row.finish is None for row in rows):
            logits, state = programs.ahead(model.variables, state)
            mask = _mask(rows, model.vocab_size)
            state, told = programs.choose(logits, state, asked, mask, **options)
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


def _mask(rows: Sequence[_Row], vocab_size: int) -> NDArray[np.int32] | None:
    """Returns which ids may follow each text, [batch, ceil(vocab / 32)]; None if all may."""
    if all(row.matcher is None for row in rows):
        return None
    mask = np.full((len(rows), -(-vocab_size // 32)), -1, np.int32)
    for words, row in zip(mask, rows, strict=True):
        if row.matcher is not None and row.finish is None:
            row.matcher.fill_mask(words)
    return mask


def _speculated(
    rows: Sequence[_Row], decoder: SpeculativeDecoder, asked: Asked, options: dict[str, bool]
) -> Iterator[tuple[int, Token]]:
    most = np.array([row.left for row in rows], np.int32)
    texts = decoder.begin([row.request.prompt for row in rows], asked, int(most.max()))
    constrained = any(row.matcher is not None for row in rows)
    count = 1
    while any(row.finish is None for row in rows):
        ended = np.array([row.finish is not None for row in rows])
        if constrained:
            proposal, logits, texts = decoder.propose(texts, asked)
            mask = _masks(rows, jax.device_get(proposal.tokens), decoder.target.vocab_size)
            texts, judged = decoder.judge(proposal, logits, texts, asked, ended, mask, **options)
        else:
            texts, judged = decoder.rounds(texts, asked, most, ended, count, **options)
            count *= 2
        for number, lengths in enumerate(judged.lengths):
            told = jax.tree.map(lambda x, i=number: x[i], judged.told)
            live = [row for row in rows if row.finish is None]
            decoder.count(lengths[[row.index for row in live]])
            for row in live:
                for place in range(lengths[row.index]):
                    if row.finish is None:
                        yield row.index, row.token(told, place)


def _masks(rows: Sequence[_Row], proposed: NDArray[np.int32], vocab_size: int) -> NDArray[np.int32]:
    """Returns which ids may stand at each place: that of each proposed id, and the next.

    Behind an id that may not stand there, or ends its text, all may: none of it will stay.

    Args:
        rows: the texts.
        proposed: [batch, k], what may follow each.
        vocab_size: of scores.

    Returns:
        [batch, k + 1, ceil(vocab / 32)].
    """
    batch, k = proposed.shape
    masks = np.full((batch, k + 1, -(-vocab_size // 32)), -1, np.int32)
    for places, ids, row in zip(masks, proposed.tolist(), rows, strict=True):
        if row.matcher is None or row.finish is not None:
            continue
        row.matcher.fill_mask(places[0])
        future = row.matcher.copy()
        for mask, following, token in zip(places, places[1:], ids, strict=False):
            if not mask[token // 32] >> (token % 32) & 1:
                break
            future.accept(token)
            if future.ended:
                break
            try:
                future.fill_mask(following)
            except UserError:  # Only a text that comes here fails, and does so by its next id.
                following[:] = -1
                break
    return masks


class _Row:
    """A request while it is decoded."""

    def __init__(self, index: int, request: Request, model: LanguageModel):
        _check(request, model)
        self.index, self.request = index, request
        self.before = model.before(request.prompt)
        self.left = request.max_tokens
        self.finish: FinishReason | None = None
        self.matcher = None if request.constraint is None else request.constraint.matcher()
        tokenizer = model.tokenizer
        self.text = None if tokenizer is None else TextStream(tokenizer, self.before, request.stop)

    def token(self, told: Told, *place: int) -> Token:
        """Takes this row's part of what a step told, at one of its places if it has several."""
        i, top = (self.index, *place), self.request.top_logprobs
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
        text = self.read(token)
        return Token(token, logprob, likeliest, self.finish, text)

    def read(self, token: int) -> str:
        """Returns what the token adds to the text, and notices the end."""
        self.left -= 1
        ends = token in self.request.end_ids
        text = "" if self.text is None or ends else self.text.feed(token)
        if self.matcher is not None:
            self.matcher.accept(token)
            ends |= self.matcher.ended
        if ends or (self.text is not None and self.text.stopped):
            self.finish = "stop"
        elif self.left == 0:
            self.finish = "length"
        if self.finish and self.text is not None:
            text += self.text.flush()
        return text


def _check(request: Request, model: LanguageModel) -> None:
    model.check(request)
    if request.adapter is not None:
        raise UserError("generate does not know what to do with a request's adapter")


def _asked(requests: Sequence[Request], model: LanguageModel) -> Asked:
    samplings = [request.sampling for request in requests]
    longest = max(len(request.end_ids) for request in requests)
    end_ids = np.full((len(requests), max(longest, 1)), -1, np.int32)
    for row, request in zip(end_ids, requests, strict=True):
        row[: len(request.end_ids)] = request.end_ids
    penalised = any(each.penalises for each in samplings)
    in_prompt = None
    if penalised:
        seen = np.zeros((len(requests), model.vocab_size), bool)
        for row, request in zip(seen, requests, strict=True):
            row[list(model.before(request.prompt))] = True
        in_prompt = jnp.asarray(seen)
    return Asked(rules(samplings, model.vocab_size), jnp.asarray(end_ids), in_prompt)
