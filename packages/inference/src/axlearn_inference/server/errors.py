"""What a client is told when its request cannot be answered."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from axlearn_core.errors import UserError
from axlearn_inference.errors import (
    Closed,
    DeadlineExceeded,
    EngineError,
    QueueFull,
)

_logger = logging.getLogger(__name__)

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """An answer in the shape of OpenAI's errors.

    Args:
        message: what was expected, what came, and what to do.
        status: of HTTP.
        param: the field that is wrong, such as `messages[0].role`.
        code: one word for programs.
        headers: of the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Returns the JSON of the answer."""
        error = {
            "message": str(self),
            "type": _TYPES.get(self.status, "invalid_request_error"),
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


def as_api_error(error: Exception) -> ApiError:
    """Returns what a client is told of any error; what nobody expected is logged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFull):
        return _later(429, "too many requests wait already", "queue_full")
    if isinstance(error, Closed):
        return _later(503, "this server is about to stop", "stopping")
    if isinstance(error, DeadlineExceeded):
        return ApiError(str(error), status=504, code="deadline_exceeded")
    if isinstance(error, UserError) and not isinstance(error, EngineError):
        return ApiError(str(error))
    _logger.exception("a request failed", exc_info=error)
    return ApiError("something went wrong here; the server's log tells what", status=500)


def _later(status: int, why: str, code: str) -> ApiError:
    return ApiError(f"{why}: try again", status=status, code=code, headers={"Retry-After": "1"})
