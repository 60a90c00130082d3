"""Answers without a model: for tests of clients and of the server itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import NamedTuple

import numpy as np

from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.errors import Closed, QueueFull
from axlearn_inference.request import FinishReason, Request, Token
from axlearn_inference.text import TextStream


class ScriptedStats(NamedTuple):
    """As `axlearn_inference.engine.Stats`; a request has one page."""

    running: int
    waiting: int
    pages_used: int
    pages_free: int
    pages_kept: int = 0


class Scripted:
    """Says what a function makes of a request and its prompt's text, a token at a time.

    It has places and a queue like an engine, and tells made-up log-probabilities. Constraints are
    not followed.

    Args:
        tokenizer: of prompts and answers.
        answer: returns the text to say.
        pause: seconds before each token.
        slots: requests that are answered at a time.
        queue: requests that may wait.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        answer: Callable[[Request, str], str],
        *,
        pause: float = 0.0,
        slots: int = 8,
        queue: int = 64,
    ):
        self._tokenizer = tokenizer
        self._answer = answer
        self._pause = pause
        self._slots = slots
        self._queue = queue
        self._places = asyncio.Semaphore(slots)
        self._running = self._waiting = 0
        self._closed = False

    @property
    def failed(self) -> bool:
        """Whether it cannot go on."""
        return False

    async def stream(self, request: Request) -> AsyncGenerator[Token, None]:
        """Yields the tokens of the answer."""
        if self._closed:
            raise Closed("it is closed")
        if self._places.locked() and self._waiting >= self._queue:
            raise QueueFull(f"{self._waiting} requests wait")
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
        """Returns how many requests there are."""
        free = self._slots - self._running
        return ScriptedStats(self._running, self._waiting, self._running, free)

    async def close(self) -> None:
        """Takes nothing any more."""
        self._closed = True

    def _tokens(self, request: Request) -> Iterator[Token]:
        said = self._answer(request, self._tokenizer.decode(request.prompt))
        end = request.end_ids[0]
        text = TextStream(self._tokenizer, request.prompt, request.stop)
        ids = [*np.asarray(self._tokenizer.encode(said)).tolist(), end][: request.max_tokens]
        for count, each in enumerate(ids, 1):
            shown = "" if each == end else text.feed(each)
            finish: FinishReason | None = None
            if text.stopped or each == end:
                finish = "stop"
            elif count == len(ids):
                finish = "length"
            if finish:
                shown += text.flush()
            yield _token(each, request.top_logprobs)._replace(finish=finish, text=shown)
            if finish:
                return


def _token(token: int, top: int | None) -> Token:
    if top is None:
        return Token(token)
    return Token(token, -0.25, tuple((token + n, -0.25 - n) for n in range(top)))
