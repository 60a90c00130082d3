"""Answers of a request while they are computed: one stream of what happens to each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from axlearn_inference.request import Request, Token
from axlearn_inference.server.metrics import Metrics
from axlearn_inference.server.serving import Serving

_AHEAD = 64  # tokens that wait until the client has read what came before


class Event(NamedTuple):
    """One token of one answer."""

    answer: int
    token: Token
    in_text: bool  # whether it is part of the answer, other than an end id


async def answers(
    serving: Serving,
    requests: Sequence[Request],
    metrics: Metrics,
) -> AsyncGenerator[Event, None]:
    """Yields what happens to the requests, in order of time; closing it gives them all up.

    Raises:
        Exception: whatever the engine raises for one of them; the others are given up.
    """
    events: asyncio.Queue[Event | BaseException | None] = asyncio.Queue(_AHEAD)

    async def follow(number: int, request: Request) -> None:
        try:
            async with contextlib.aclosing(_events(number, request, serving)) as found:
                async for event in metrics.timed(found):
                    await events.put(event)
            await events.put(None)
        except Exception as error:  # goes to the one who iterates
            await events.put(error)

    tasks = [asyncio.create_task(follow(*each)) for each in enumerate(requests)]
    running = len(tasks)
    try:
        while running:
            event = await events.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                running -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _events(number: int, request: Request, serving: Serving) -> AsyncGenerator[Event, None]:
    async with contextlib.aclosing(serving.stream(request)) as tokens:
        async for token in tokens:
            ended = token.finish == "stop" and token.id in request.end_ids
            yield Event(number, token, not ended)
