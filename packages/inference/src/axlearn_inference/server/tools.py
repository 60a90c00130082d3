"""Functions that a model may call: what clients declare, and what the model writes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from axlearn_inference.server.fields import Fields

_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")  # as OpenAI says
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class Tools:
    """The functions of one request.

    Attributes:
        declared: as the client wrote them, for the template; empty if the model must not know.
        forced: names of which the answer must call one; empty if it may say something else.
    """

    declared: Sequence[dict[str, Any]] = ()
    forced: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """What may be called."""
        return [tool["function"]["name"] for tool in self.declared]

    def schema(self) -> str | None:
        """Returns the JSON schema of a forced call; None if none is forced."""
        if not self.forced:
            return None
        parameters = {
            tool["function"]["name"]: tool["function"]["parameters"] for tool in self.declared
        }
        calls = [
            _object(name={"const": name}, arguments={"$ref": f"#/$defs/{name}"})
            for name in self.forced
        ]
        defined = {name: _moved(parameters[name], f"#/$defs/{name}") for name in self.forced}
        return json.dumps({"anyOf": calls, "$defs": defined})


def read_tools(body: Fields) -> Tools:
    """Takes `tools` and `tool_choice`."""
    declared = [_declaration(each) for each in body.objects("tools")]
    names = [tool["function"]["name"] for tool in declared]
    choice = body.raw("tool_choice")
    if choice == "none":
        return Tools()
    if choice in (None, "auto"):
        return Tools(declared)
    if choice == "required":
        forced = names
    elif isinstance(choice, dict):
        forced = [_chosen(Fields(choice, "tool_choice"))]
    else:
        body.refuse("tool_choice", "must be none, auto, required or a function's name in an object")
    if not forced or not set(forced) <= set(names):
        body.refuse("tool_choice", f"asks for {forced or 'a call'}, but tools declares {names}")
    return Tools(declared, forced)


def _declaration(fields: Fields) -> dict[str, Any]:
    fields.text("type", "function", among=("function",))
    function = fields.inner("function")
    if function is None:
        fields.refuse("function", "is missing")
    fields.end()
    found: dict[str, Any] = {"name": function.text("name", None)}
    if not _NAME.fullmatch(found["name"] or ""):
        function.refuse("name", "must be 1 to 64 letters, digits, _ or -")
    found["description"] = function.text("description", "")
    parameters = function.raw("parameters")
    if not isinstance(parameters, dict | None):
        function.refuse("parameters", "must be a JSON schema")
    found["parameters"] = parameters or {"type": "object", "properties": {}}
    function.flag("strict")  # forced calls always match the schema, others cannot be made to
    function.end()
    return {"type": "function", "function": found}


def _chosen(choice: Fields) -> str:
    choice.text("type", "function", among=("function",))
    function = choice.inner("function")
    name = function.text("name", None) if function else None
    if name is None:
        choice.refuse("function.name", "is missing")
    return name


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _moved(schema: Any, root: str) -> Any:
    """Returns a schema whose references to itself are right within another one."""
    if isinstance(schema, dict):
        moved = {key: _moved(value, root) for key, value in schema.items()}
        if isinstance(reference := schema.get("$ref"), str) and reference.startswith("#"):
            moved["$ref"] = root + reference[1:]
        return moved
    return [_moved(each, root) for each in schema] if isinstance(schema, list) else schema


class Call(NamedTuple):
    """A call that the model asks for."""

    name: str
    arguments: str  # JSON


class CallReader:
    """Finds calls in an answer while it is written.

    The forms of Hermes and Qwen, `<tool_call>{"name": ..., "arguments": ...}</tool_call>` any
    number of times within other text, and of Llama 3, an answer that is nothing but
    `{"name": ..., "parameters": ...}` or several of them with semicolons in between. What
    looks like a call but is none of a known function stays text.

    Args:
        names: of the functions.
    """

    def __init__(self, names: Collection[str]):
        self._names = names
        self._text = ""  # that is not given out yet
        self._begun = False  # something was given out
        self._called = False  # a call among it: white space that follows means nothing

    def push(self, text: str) -> Iterator[str | Call]:
        """Yields text and calls that are certain now."""
        if not self._names:
            if text:
                yield text
            return
        self._text += text
        while _OPEN in self._text:
            before, _, rest = self._text.partition(_OPEN)
            inside, closed, after = rest.partition(_CLOSE)
            if before.strip():
                yield from self._give(before)
            self._text = _OPEN + rest
            if not closed:
                return
            self._text = after
            yield from self._calls(inside) or self._give(_OPEN + inside + _CLOSE)
        start = self._text.lstrip()
        if not self._begun and (not start or start[0] == "{"):
            return  # may be a call in Llama's form: known at the end
        ready = len(self._text) - _overlap(self._text, _OPEN)
        given = self._text[:ready]
        if given.strip() or (given and not self._called):
            self._text = self._text[ready:]
            yield from self._give(given)

    def end(self) -> Iterator[str | Call]:
        """Yields the rest."""
        text, self._text = self._text, ""
        inside = text.removeprefix(_OPEN)  # the model may stop instead of closing
        whole = inside is not text or not self._begun
        if calls := self._calls(inside) if whole else []:
            yield from calls
        elif text.strip() or (text and not self._called):
            yield text

    def _give(self, text: str) -> list[str | Call]:
        self._begun = True
        return [text]

    def _calls(self, text: str) -> list[str | Call]:
        """Returns the calls if the text is nothing else; otherwise none."""
        decoder, calls = json.JSONDecoder(), list[str | Call]()
        text = text.strip()
        while text:
            try:
                value, end = decoder.raw_decode(text)
            except (ValueError, RecursionError):
                return []
            call = self._call(value)
            if call is None:
                return []
            calls.append(call)
            text = text[end:].strip().removeprefix(";").strip()
        if calls:
            self._begun = self._called = True
        return calls

    def _call(self, value: Any) -> Call | None:
        if not isinstance(value, dict) or value.get("name") not in self._names:
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        if isinstance(arguments, str):
            return Call(value["name"], arguments)
        return Call(value["name"], json.dumps(arguments, ensure_ascii=False))


def _overlap(text: str, mark: str) -> int:
    """Returns how many characters at the end of a text may be the beginning of a mark."""
    longest = min(len(text), len(mark) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(mark[:n])), 0)
