"""`/v1/chat/completions`: an assistant answers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from axlearn_core.errors import UserError
from axlearn_inference.request import FinishReason
from axlearn_inference.server.answers import Event
from axlearn_inference.server.errors import ApiError
from axlearn_inference.server.fields import Fields
from axlearn_inference.server.messages import read_messages
from axlearn_inference.server.prompts import (
    constrained,
    read_common,
    read_top_logprobs,
    requests,
    response_schema,
)
from axlearn_inference.server.serving import Served
from axlearn_inference.server.tools import Call, CallReader, read_tools
from axlearn_inference.server.vocabulary import finite

Json = dict[str, Any]


class ChatCompletions:
    """One request, and its answers in OpenAI's shape.

    Raises:
        ApiError: for a field that does not fit.
    """

    id_prefix = "chatcmpl"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, body: Fields, served: Served):
        self._served = served
        most = body.integer("max_completion_tokens", None, low=1)
        common = read_common(body, served)
        self.common = common.with_max_tokens(most) if most else common
        messages = read_messages(body)
        tools = read_tools(body)
        several = body.flag("parallel_tool_calls", True)
        schema = response_schema(body)
        top = _top_logprobs(body)
        variables = body.raw("chat_template_kwargs")
        if not isinstance(variables, dict | None):
            body.refuse("chat_template_kwargs", "must be an object")
        _refuse_others(body)
        body.end()
        forced = tools.schema()
        if schema and forced:
            body.refuse("response_format", "cannot be combined with a tool_choice that forces")
        if served.chat is None:
            raise ApiError(
                f"{served.name} has no chat template: use /v1/completions, or start the server "
                "with --chat-template FILE",
                code="no_chat_template",
            )
        try:
            prompt = served.chat.encode(messages, tools.declared, variables)
        except UserError as error:
            raise ApiError(str(error), param="messages") from error
        self.requests = requests(
            [prompt],
            self.common,
            served,
            param="messages",
            top_logprobs=top,
            constraint=constrained(forced, served, "tool_choice")
            or constrained(schema, served, "response_format"),
        )
        self._answers = [_Answer(tools.names, several) for _ in self.requests]

    def opening(self, answer: int) -> Iterator[Json]:
        """Yields what a stream begins with."""
        yield self._delta(answer, {"role": "assistant", "content": ""})

    def deltas(self, event: Event) -> Iterator[Json]:
        """Yields what a stream says of an event."""
        answer, logprobs = self._answers[event.answer], self._logprobs([event])
        for part in answer.parts(event):
            if isinstance(part, str):
                yield self._delta(event.answer, {"content": part}, logprobs)
            else:
                call = {"index": answer.calls - 1, **_call(part)}
                yield self._delta(event.answer, {"tool_calls": [call]}, logprobs)
            logprobs = None
        if event.token.finish or logprobs:
            yield self._delta(event.answer, {}, logprobs, answer.finish(event.token.finish))

    def whole(self, answer: int, events: Sequence[Event]) -> Json:
        """Returns a whole answer."""
        state = self._answers[answer]
        parts = [part for event in events for part in state.parts(event)]
        calls = [_call(part) for part in parts if isinstance(part, Call)]
        text = "".join(part for part in parts if isinstance(part, str))
        message: Json = {"role": "assistant", "content": text or (None if calls else "")}
        if calls:
            message["tool_calls"] = calls
        return {
            "index": answer,
            "message": {**message, "refusal": None},
            "logprobs": self._logprobs(events),
            "finish_reason": state.finish(events[-1].token.finish),
        }

    def _delta(
        self, answer: int, delta: Json, logprobs: Json | None = None, finish: str | None = None
    ) -> Json:
        return {"index": answer, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, events: Sequence[Event]) -> Json | None:
        if self.requests[0].top_logprobs is None:
            return None
        tokens = [event.token for event in events if event.in_text]
        content = [
            {
                **self._token(token.id, token.logprob),
                "top_logprobs": [self._token(*each) for each in token.top],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _token(self, token: int, logprob: float | None) -> Json:
        vocabulary = self._served.vocabulary
        piece = vocabulary.bytes(token)
        read = None if piece is None else list(piece)
        return {"token": vocabulary.text(token), "logprob": finite(logprob), "bytes": read}


class _Answer:
    """One answer as far as it came: text and calls."""

    def __init__(self, names: Sequence[str], several: bool):
        self._reader = CallReader(names)
        self._several = several
        self.calls = 0

    def parts(self, event: Event) -> Iterator[str | Call]:
        yield from self._counted(self._reader.push(event.token.text))
        if event.token.finish:
            yield from self._counted(self._reader.end())

    def finish(self, reason: FinishReason | None) -> str | None:
        return "tool_calls" if reason == "stop" and self.calls else reason

    def _counted(self, parts: Iterator[str | Call]) -> Iterator[str | Call]:
        for part in parts:
            if isinstance(part, Call):
                if self.calls and not self._several:
                    continue
                self.calls += 1
            yield part


def _call(call: Call) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _top_logprobs(body: Fields) -> int | None:
    top = read_top_logprobs(body, "top_logprobs")
    if not body.flag("logprobs"):
        if top is not None:
            body.refuse("top_logprobs", "needs logprobs=true")
        return None
    return top or 0


def _refuse_others(body: Fields) -> None:
    body.only("functions", [], instead="use tools")
    body.only("function_call", "none", instead="use tool_choice")
    body.only("modalities", ["text"], instead="this model writes text")
    body.only("audio", instead="this model writes text")
    body.only("prediction", instead="leave it out")
    body.only("reasoning_effort", instead="set what the template knows in chat_template_kwargs")
    body.only("service_tier", "auto", "default", instead="there is one tier")
