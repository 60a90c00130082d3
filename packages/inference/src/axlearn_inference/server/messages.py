"""Messages of a chat as clients send them, and as templates read them."""

from __future__ import annotations

import json
from typing import Any

from axlearn_inference.server.fields import Fields

Message = dict[str, Any]

_ROLES = ("system", "developer", "user", "assistant", "tool")


def read_messages(body: Fields) -> list[Message]:
    """Returns the messages, contents as strings and arguments of tool calls as objects."""
    messages = [_message(each) for each in body.objects("messages")]
    if not messages:
        body.refuse("messages", "must hold at least one message")
    return messages


def _message(fields: Fields) -> Message:
    role = fields.text("role", None, among=_ROLES)
    if role is None:
        fields.refuse("role", f"is missing; it must be one of {', '.join(_ROLES)}")
    # Templates know system only; OpenAI calls it developer for its newer models.
    message: Message = {"role": "system" if role == "developer" else role}
    message["content"] = _content(fields)
    if name := fields.text("name", None):
        message["name"] = name
    if role == "assistant":
        if calls := [_call(each) for each in fields.objects("tool_calls")]:
            message["tool_calls"] = calls
        if reasoning := fields.text("reasoning_content", None):
            message["reasoning_content"] = reasoning
        fields.ignore("refusal", "annotations")
    elif role == "tool":
        message["tool_call_id"] = fields.text("tool_call_id", "")
    if role != "assistant" and message["content"] is None:
        fields.refuse("content", "is missing")
    fields.end()
    return message


def _content(fields: Fields) -> str | None:
    value = fields.raw("content")
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        fields.refuse("content", "must be a string or a list of text parts")
    return "".join(
        _part(Fields(each, fields.name(f"content[{n}]"))) for n, each in enumerate(value)
    )


def _part(fields: Fields) -> str:
    kind = fields.text("type", None)
    if kind != "text":
        fields.refuse("type", f"must be text, got {kind!r}: this model reads nothing else")
    text = fields.text("text", "")
    fields.end()
    return text


def _call(fields: Fields) -> Message:
    fields.text("type", "function", among=("function",))
    call: Message = {"id": fields.text("id", ""), "type": "function"}
    function = fields.inner("function")
    if function is None:
        fields.refuse("function", "is missing")
    arguments = function.text("arguments", "{}") or "{}"
    try:
        parsed = json.loads(arguments)
    except ValueError:
        function.refuse("arguments", "must be a string of JSON")
    call["function"] = {"name": function.text("name", ""), "arguments": parsed}
    function.end()
    fields.ignore("index")
    fields.end()
    return call
