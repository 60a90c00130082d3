"""What the server needs of whatever computes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.chat import ChatTemplate
from axlearn_inference.request import Constraint, Request, Token
from axlearn_inference.server.vocabulary import Vocabulary


class Stats(Protocol):
    """How busy it is now; see `axlearn_inference.engine.Stats`."""

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def pages_used(self) -> int: ...

    @property
    def pages_free(self) -> int: ...

    @property
    def pages_kept(self) -> int: ...


class Serving(Protocol):
    """Answers many requests at a time, as `axlearn_inference.engine.AsyncEngine`."""

    def stream(self, request: Request) -> AsyncGenerator[Token, None]:
        """Yields the tokens that follow. Closing it gives up the request.

        Raises:
            QueueFull: before the first token, if too many requests wait.
            EngineError: if it cannot go on.
        """
        ...

    @property
    def failed(self) -> bool:
        """Whether it cannot go on, so that this process is to be replaced."""
        ...

    def stats(self) -> Stats:
        """Returns how busy it is."""
        ...

    async def close(self) -> None:
        """Ends all requests, and returns when nothing runs any more."""
        ...


class Constraints(Protocol):
    """Describes what texts may be, as `axlearn_inference.constraints.Constraints`."""

    def json_schema(self, schema: str) -> Constraint:
        """Allows JSON that a schema, itself JSON, describes.

        Raises:
            UserError: if it cannot be followed.
        """
        ...


@dataclass(frozen=True)
class Served:
    """A model that is ready to answer.

    Attributes:
        name: by which clients ask for it.
        serving: computes.
        tokenizer: what its ids mean.
        max_length: of prompt and answer together, in tokens.
        chat_template: jinja text; None if the model does not chat.
        constraints: describe what an answer must be; None if nothing can.
        adapters: names of the LoRA adapters that are loaded now, models of their own to clients.
    """

    name: str
    serving: Serving
    tokenizer: Tokenizer
    max_length: int
    chat_template: str | None = None
    constraints: Constraints | None = None
    adapters: Callable[[], Sequence[str]] = tuple

    @property
    def names(self) -> list[str]:
        """What clients may ask for."""
        return [self.name, *self.adapters()]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What each id stands for."""
        return Vocabulary(self.tokenizer)

    @cached_property
    def chat(self) -> ChatTemplate | None:
        """The template, ready to use.

        Raises:
            ChatError: if it is none.
        """
        source = self.chat_template
        return None if source is None else ChatTemplate(source, self.tokenizer)


Load = Callable[[], Served]
