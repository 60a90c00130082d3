"""What happens around every request: who may ask, and a line of log."""

from __future__ import annotations

import hmac
import json
import logging
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from axlearn_inference.server.errors import ApiError, as_api_error
from axlearn_inference.server.metrics import Metrics
from axlearn_inference.server.options import Options
from axlearn_inference.server.supervision import ClientGone

access_log = logging.getLogger("axlearn_inference.access")

_PATHS = ("/", "/health", "/metrics", "/v1/models", "/v1/completions", "/v1/chat/completions")
_OPEN = ("/", "/health")  # for everybody: the page holds no secrets, and asks for the key
_CLIENT_GONE = 499  # as nginx calls it


class Access:
    """Middleware: checks host and key, turns errors into answers, counts and logs.

    Attributes:
        active: requests that are not answered yet.
    """

    def __init__(self, app: ASGIApp, options: Options, metrics: Metrics):
        self._app = app
        self._options = options
        self._metrics = metrics
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 0
        notes: dict[str, Any] = {}
        scope.setdefault("state", {})["notes"] = notes

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.active += 1
        try:
            await self._answer(scope, receive, watched)
        except ClientGone:
            status = _CLIENT_GONE
        finally:
            self.active -= 1
            seconds = time.perf_counter() - began
            self._note(scope, status or _CLIENT_GONE, seconds, notes)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope["path"], scope["method"], Headers(scope=scope))
            await self._app(scope, receive, send)
        except ClientGone:
            raise
        except Exception as error:
            found = as_api_error(error)
            answer = JSONResponse(found.body(), found.status, found.headers)
            await answer(scope, receive, send)

    def _check(self, path: str, method: str, headers: Headers) -> None:
        options = self._options
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if options.hosts and name.lower() not in options.hosts:
            raise ApiError(
                f"this server is not called {name!r} but {' or '.join(options.hosts)}; if it "
                "should be reached by that name, start it with --host",
                status=421,
            )
        if options.api_key is None or path in _OPEN or method == "OPTIONS":
            return
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), options.api_key.encode()):
            raise ApiError(
                "this server asks for its API key: send the header Authorization: Bearer KEY",
                status=401,
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _note(self, scope: Scope, status: int, seconds: float, notes: dict[str, Any]) -> None:
        path = scope["path"] if scope["path"] in _PATHS else "other"
        self._metrics.requests.labels(path, str(status)).inc()
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "client": (scope.get("client") or ["?"])[0],
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
            **notes,
        }
        access_log.info(json.dumps(line))
