"""Answers without a model: for tests of clients and of the server itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple

import numpy as np

from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.request import FinishReason, Matcher, Request, Token
from axlearn_inference.server.serving import Closed, QueueFull


class ScriptedStats(NamedTuple):
    """As `Stats`."""

    running: int
    waiting: int
    cache_used: float


class Scripted:
    """Says what a function makes of the prompt's text, a token at a time.

    It has places and a queue like an engine, keeps to constraints (by the least id that is
    allowed, where the text is not), and tells made-up log-probabilities.

    Args:
        tokenizer: of prompts and answers.
        answer: the text to say.
        pause: seconds before each token.
        slots: requests that are answered at a time.
        queue: requests that may wait.
        adapters: names of adapters that clients may ask for.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        answer: Callable[[Request, str], str],
        *,
        pause: float = 0.0,
        slots: int = 8,
        queue: int = 64,
        adapters: Sequence[str] = (),
    ):
        self._tokenizer = tokenizer
        self._answer = answer
        self._pause = pause
        self._slots = slots
        self._queue = queue
        self._adapters = adapters
        self._places = asyncio.Semaphore(slots)
        self._running = self._waiting = 0
        self._closed = False

    async def stream(self, request: Request) -> AsyncGenerator[Token, None]:
        if self._closed:
            raise Closed
        if self._places.locked() and self._waiting >= self._queue:
            raise QueueFull
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            for token in self._tokens(request):
                await asyncio.sleep(self._pause)
                yield token
        finally:
            self._running -= 1
            self._places.release()

    def stats(self) -> ScriptedStats:
        return ScriptedStats(self._running, self._waiting, self._running / self._slots)

    def adapters(self) -> Sequence[str]:
        return self._adapters

    async def drain(self) -> None:
        self._closed = True
        while self._running or self._waiting:
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        self._closed = True

    def _tokens(self, request: Request) -> list[Token]:
        text = self._answer(request, self._tokenizer.decode(request.prompt))
        end = request.end_ids[0]
        wanted = [*np.asarray(self._tokenizer.encode(text)).tolist(), end]
        if request.constraint is not None:
            wanted = _followed(request.constraint.matcher(), wanted, end, self._tokenizer)
        ids = wanted[: request.max_tokens]
        tokens = [_token(each, request) for each in ids]
        finish: FinishReason = "stop" if ids[-1] == end else "length"
        return [*tokens[:-1], tokens[-1]._replace(finish=finish)]


def _token(token: int, request: Request) -> Token:
    if request.top_logprobs is None:
        return Token(token)
    top = [(token + n, -0.25 - n) for n in range(request.top_logprobs)]
    return Token(token, -0.25, tuple(top))


def _followed(matcher: Matcher, wanted: list[int], end: int, tokenizer: Tokenizer) -> list[int]:
    ids = []
    mask = np.zeros(-(-tokenizer.vocab_size // 32), np.int32)
    for each in wanted:
        if matcher.ended:
            break
        matcher.fill_mask(mask)
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
        chosen = each if bits[each] else int(np.flatnonzero(bits)[0])
        matcher.accept(chosen)
        ids.append(chosen)
    return [*ids, end]
