"""The HTTP application: which address answers what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, Protocol

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from axlearn_inference.errors import Closed
from axlearn_inference.request import Request
from axlearn_inference.server.access import Access
from axlearn_inference.server.answers import Event, answers
from axlearn_inference.server.chat_completions import ChatCompletions
from axlearn_inference.server.completions import Completions
from axlearn_inference.server.errors import ApiError, as_api_error
from axlearn_inference.server.fields import Fields
from axlearn_inference.server.metrics import Metrics
from axlearn_inference.server.options import Options
from axlearn_inference.server.page import chat_page
from axlearn_inference.server.prompts import Common
from axlearn_inference.server.serving import Served
from axlearn_inference.server.supervision import ClientGone, EventStream, supervised

Json = dict[str, Any]

_BODY_SECONDS = 60  # in which a request must have come


class Kind(Protocol):
    """One request of a client, and how its answers are written."""

    id_prefix: str
    object: str
    chunk_object: str
    common: Common
    requests: list[Request]

    def opening(self, answer: int) -> Iterator[Json]: ...

    def deltas(self, event: Event) -> Iterator[Json]: ...

    def whole(self, answer: int, events: Sequence[Event]) -> Json: ...


class Api:
    """A model over HTTP.

    Attributes:
        app: the ASGI application.
        served: the model; None while it is loaded, and then only `/health` and the page answer.
        draining: whether new requests are refused, because the server is about to stop.
    """

    def __init__(self, options: Options):
        self.served: Served | None = None
        self.draining = False
        self._options = options
        self._metrics = Metrics()
        self._since = int(time.time())
        routes = [
            Route("/", self._page),
            Route("/health", self._health),
            Route("/metrics", self._figures),
            Route("/v1/models", self._models),
            Route("/v1/models/{name:path}", self._model),
            Route("/v1/completions", self._completions, methods=["POST"]),
            Route("/v1/chat/completions", self._chat_completions, methods=["POST"]),
        ]
        self._access = Access(Router(routes, default=_not_found), options, self._metrics)
        self.app: ASGIApp = self._access
        if options.origins:
            self.app = CORSMiddleware(
                self._access,
                allow_origins=options.origins,
                allow_methods=["*"],
                allow_headers=["*"],
            )

    @property
    def active(self) -> int:
        """How many requests are not answered yet."""
        return self._access.active

    async def drain(self) -> None:
        """Takes no new requests, and waits for the running ones, but not longer than `grace`."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.grace):
                while self.active:
                    await asyncio.sleep(0.05)

    async def _page(self, _: HttpRequest) -> Response:
        return chat_page()

    async def _health(self, _: HttpRequest) -> Response:
        status = "ready"
        if self.draining:
            status = "stopping"
        elif self.served is None:
            status = "starting"
        elif self.served.serving.failed:
            status = "failed"
        return JSONResponse({"status": status}, 200 if status == "ready" else 503)

    async def _figures(self, _: HttpRequest) -> Response:
        stats = None if self.served is None else self.served.serving.stats()
        page = self._metrics.page(stats)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _models(self, _: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": list(self._described())})

    async def _model(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        for model in self._described():
            if model["id"] == name:
                return JSONResponse(model)
        raise ApiError(f"there is no model {name!r}", status=404, code="model_not_found")

    def _described(self) -> Iterator[Json]:
        served = self._ready()
        for name in served.names:
            yield {
                "id": name,
                "object": "model",
                "created": self._since,
                "owned_by": "axlearn",
                "max_model_len": served.max_length,
                "chat": served.chat is not None,
            }

    def _ready(self) -> Served:
        if self.draining:
            raise Closed("the server is about to stop")
        if self.served is None:
            raise ApiError(
                "the model is still being loaded: try again",
                status=503,
                code="starting",
                headers={"Retry-After": "5"},
            )
        return self.served

    async def _completions(self, request: HttpRequest) -> Response | EventStream:
        return await self._answer(request, Completions)

    async def _chat_completions(self, request: HttpRequest) -> Response | EventStream:
        return await self._answer(request, ChatCompletions)

    async def _answer(
        self, request: HttpRequest, read: Callable[[Fields, Served], Kind]
    ) -> Response | EventStream:
        served = self._ready()
        body = Fields(await _json(request, self._options.max_body))
        kind = await asyncio.to_thread(read, body, served)  # which tokenises: that takes a while
        usage = _Usage(kind, request.state.notes)
        self._metrics.tokens_in.inc(usage.prompt)
        seconds = min(kind.common.timeout or self._options.timeout, self._options.timeout)
        name = kind.common.adapter or served.name
        head = {
            "id": f"{kind.id_prefix}-{uuid.uuid4().hex}",
            "object": kind.chunk_object if kind.common.stream else kind.object,
            "created": int(time.time()),
            "model": name,
        }
        events = answers(served.serving, kind.requests, self._metrics)
        counted = usage.counted(events)
        if kind.common.stream:
            chunks = _chunks(kind, counted, head, usage)
            return EventStream(chunks, seconds, lambda error: as_api_error(error).body())
        choices = await supervised(request.receive, _whole(kind, counted), seconds)
        return JSONResponse({**head, "choices": choices, "usage": usage.as_json()})


class _Usage:
    """Counts tokens, for the client and for the log."""

    def __init__(self, kind: Kind, notes: Json):
        self.prompt = sum(len(each.prompt) for each in kind.requests[:: kind.common.n])
        self._notes = notes
        notes.update(prompt_tokens=self.prompt, completion_tokens=0)

    async def counted(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        async with contextlib.aclosing(events):
            async for event in events:
                self._notes["completion_tokens"] += 1
                yield event

    def as_json(self) -> Json:
        written = self._notes["completion_tokens"]
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": written,
            "total_tokens": self.prompt + written,
        }


async def _chunks(
    kind: Kind, events: AsyncGenerator[Event, None], head: Json, usage: _Usage
) -> AsyncGenerator[Json, None]:
    """Yields the JSON of each part of a stream."""
    rest = {"usage": None} if kind.common.usage else {}
    opened = set()
    async with contextlib.aclosing(events):
        async for event in events:
            if event.answer not in opened:
                opened.add(event.answer)
                for choice in kind.opening(event.answer):
                    yield {**head, "choices": [choice], **rest}
            for choice in kind.deltas(event):
                yield {**head, "choices": [choice], **rest}
    if kind.common.usage:
        yield {**head, "choices": [], "usage": usage.as_json()}


async def _whole(kind: Kind, events: AsyncGenerator[Event, None]) -> list[Json]:
    """Returns all answers."""
    found: list[list[Event]] = [[] for _ in kind.requests]
    async with contextlib.aclosing(events):
        async for event in events:
            found[event.answer].append(event)
    return [kind.whole(*each) for each in enumerate(found)]


async def _json(request: HttpRequest, most: int) -> Any:
    # A page elsewhere can only send JSON after asking by OPTIONS, which is refused unless allowed.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(f"the body must be JSON: say Content-Type: application/json, not {kind!r}")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise ApiError(
                        f"the body is larger than {most} bytes; send less, or start the server "
                        "with a larger --max-body",
                        status=413,
                    )
    except TimeoutError as error:
        raise ApiError(f"no whole body within {_BODY_SECONDS} seconds", status=408) from error
    except ClientDisconnect as error:
        raise ClientGone from error
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise ApiError(f"the body is no JSON: {error}") from error


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise ApiError(
        f"there is nothing at {scope['path']}: see /v1/models, /v1/completions, "
        "/v1/chat/completions, /health and /metrics",
        status=404,
    )
