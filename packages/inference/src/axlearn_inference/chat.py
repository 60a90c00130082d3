"""Chat templates: messages to the ids of a prompt."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from axlearn_core.errors import UserError
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.special import Markup

_MOST_CHARACTERS = 16 << 20  # of a rendered prompt, or a string on its way there
_END = "\ufdd0"  # which Unicode sets aside, so that it is in nobody's text
_MOST_ROUNDS = 1_000_000  # of loops over numbers in one prompt


class ChatError(UserError):
    """A template cannot be used, or cannot write these messages."""


class ChatTemplate:
    """Writes a conversation as a model was trained to read it.

    The template is code that came with a model, so it runs in jinja's sandbox: it sees the values
    below and nothing of Python; how often it loops over numbers and how much it writes is bounded.
    As elsewhere it may use `messages`, `tools`, `add_generation_prompt`, names of special tokens
    such as `bos_token`, `raise_exception(text)`, `strftime_now(format)` and `tojson`.

    Args:
        source: jinja text.
        tokenizer: of the model. What stands for its special tokens does so only where the template
            itself wrote it; see `Markup`.

    Raises:
        ChatError: if the source is no jinja template.
    """

    def __init__(self, source: str, tokenizer: Tokenizer):
        self._markup = Markup(tokenizer)
        self._names = dict(tokenizer.special_tokens)
        try:
            self._template = _Sandbox().from_string(source)
        except TemplateError as error:
            raise ChatError(f"the chat template is no jinja template: {error}") from error

    def encode(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Returns the ids of a prompt that an assistant's answer follows.

        Args:
            messages: as in OpenAI's API, contents as strings, arguments of tool calls as objects.
            tools: as in OpenAI's API.
            variables: what else the template may know, such as `{"enable_thinking": False}`.

        Raises:
            ChatError: if the template refuses the messages, or fails.
            UserError: if text of users would become a special token; see `Markup.encode`.
        """
        values = self._markup.guarded(
            {**(variables or {}), "messages": list(messages), "tools": list(tools) or None}
        )
        return self._markup.encode(self._render({**values, "add_generation_prompt": True}))

    def render(self, messages: Sequence[Mapping[str, Any]], *, continued: bool = False) -> str:
        """Returns the text of a prompt, in which names of special tokens stand for these.

        For messages that are trusted, as those of an evaluation's tasks.

        Args:
            messages: as in OpenAI's API, contents as strings.
            continued: whether the model goes on with the last message; else an answer follows.

        Raises:
            ChatError: if the template refuses the messages, or fails.
        """
        if not continued:
            return self._render({"messages": list(messages), "add_generation_prompt": True})
        *before, last = messages
        marked = {**last, "content": f"{last['content']}{_END} "}
        text = self._render({"messages": [*before, marked], "add_generation_prompt": False})
        begun, mark, after = text.rpartition(_END)
        if not mark:
            raise ChatError("the chat template leaves out the message to go on with")
        return begun if after.startswith(" ") else begun.rstrip()  # it trims what is in messages

    def _render(self, values: Mapping[str, Any]) -> str:
        parts, length = [], 0
        rounds = _MOST_ROUNDS

        def bounded_range(*limits: int) -> range:
            nonlocal rounds
            found = range(*limits)
            rounds -= len(found)
            if rounds < 0:
                raise ChatError(f"it loops more than {_MOST_ROUNDS} times")
            return found

        try:
            for part in self._template.generate(
                {**self._names, "tools": None, **values, "range": bounded_range}
            ):
                parts.append(part)
                length += len(part)
                if length > _MOST_CHARACTERS:
                    raise ChatError(f"it writes more than {_MOST_CHARACTERS} characters")
        except Exception as error:  # it is code, and may fail in any way
            raise ChatError(f"the chat template failed: {error}") from error
        return "".join(parts)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[LoopControlExtension, _Generation],
        )
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = _now

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Computes products and powers, unless they would be huge."""
        numbers = [each for each in (left, right) if isinstance(each, int | float)]
        if operator == "**" and max(map(abs, numbers), default=0) > 1000:
            raise ChatError("it raises large numbers to powers")
        if operator == "*" and len(numbers) == 1:
            sequence = left if right is numbers[0] else right
            if len(sequence) * numbers[0] > _MOST_CHARACTERS:
                raise ChatError(f"it repeats something {numbers[0]} times")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """Passes over `{% generation %}`, which marks what a model is trained to write."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As `json.dumps`: jinja's own filter would write `<` as `\\u003c`, for web pages.

    `ensure_ascii` is not followed: stand-ins must stay characters.
    """
    return json.dumps(
        value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise ChatError(message)


def _now(format: str) -> str:
    return datetime.datetime.now().strftime(format)
