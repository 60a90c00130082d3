"""Work for a client that may leave, within a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from axlearn_inference.server.errors import ApiError

T = TypeVar("T")

_LAST_WORDS = 1.0  # seconds for telling a client that reads too slowly


class ClientGone(Exception):
    """Nobody waits for the answer."""


async def supervised(receive: Receive, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Returns what the work returns. The work is cancelled as soon as it is in vain.

    Raises:
        ClientGone: if the client closed the connection.
        ApiError: if the time is over.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(receive))
    try:
        done, _ = await asyncio.wait(
            {task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if task in done:
            return task.result()
        if gone in done:
            raise ClientGone
        raise ApiError(
            f"no whole answer within {seconds:g} seconds: ask for fewer tokens, or later",
            status=504,
            code="deadline_exceeded",
        )
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream:
    """An answer that is sent while it is computed, as server-sent events.

    Nothing is sent before the first event is there, so that an error until then has a status of
    its own; a later one is the last event.

    Args:
        events: JSON of each event.
        seconds: for all of it.
        describe: turns an error into JSON for the client.
    """

    def __init__(
        self,
        events: AsyncGenerator[Any, None],
        seconds: float,
        describe: Callable[[Exception], Any],
    ):
        self._events = events
        self._seconds = seconds
        self._describe = describe
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await supervised(receive, self._send(send), self._seconds)
        except ClientGone:
            raise
        except Exception as error:
            if not self._started:
                raise
            with contextlib.suppress(TimeoutError):
                last = self._event(send, self._describe(error), more=False)
                await asyncio.wait_for(last, _LAST_WORDS)

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._events) as events:
            async for event in events:
                if not self._started:
                    self._started = True
                    headers = [
                        (b"content-type", b"text/event-stream; charset=utf-8"),
                        (b"cache-control", b"no-store"),
                        (b"x-accel-buffering", b"no"),  # proxies would collect the events
                    ]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                await self._event(send, event)
            await self._write(send, "[DONE]", more=False)

    def _event(self, send: Send, event: Any, *, more: bool = True) -> Awaitable[None]:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        return self._write(send, text, more=more)

    async def _write(self, send: Send, text: str, *, more: bool) -> None:
        body = f"data: {text}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": more})
