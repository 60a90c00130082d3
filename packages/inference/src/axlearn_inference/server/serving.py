"""What the server needs of whatever computes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from axlearn_core.errors import UserError
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.request import Constraint, Request, Token
from axlearn_inference.server.chat import ChatTemplate
from axlearn_inference.server.vocabulary import Vocabulary


class QueueFull(UserError):
    """As many requests wait as may."""


class Closed(UserError):
    """No new requests are taken any more."""


class Stats(Protocol):
    """How busy it is now."""

    @property
    def running(self) -> int:
        """Requests that get tokens."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that wait for their first one."""
        ...

    @property
    def cache_used(self) -> float:
        """The fraction of the cache that is in use."""
        ...


class Serving(Protocol):
    """An engine that answers many requests at a time."""

    def stream(self, request: Request) -> AsyncGenerator[Token, None]:
        """Yields the tokens that follow. Closing the iterator gives up the request.

        Raises:
            QueueFull: before the first token, if too many requests wait.
            Closed: before the first token, after `drain` or `close`.
        """
        ...

    def stats(self) -> Stats:
        """Returns how busy it is."""
        ...

    def adapters(self) -> Sequence[str]:
        """Returns the names of the LoRA adapters that requests may ask for."""
        ...

    async def drain(self) -> None:
        """Takes no new requests, and returns when the running ones are done."""
        ...

    async def close(self) -> None:
        """Ends all requests and gives back what it holds."""
        ...


class MakeConstraint(Protocol):
    """Describes texts that a model may write."""

    def __call__(self, kind: str, text: str, tokenizer: Tokenizer) -> Constraint:
        """Returns a constraint.

        Args:
            kind: what `text` is; the server asks for `json_schema`.
            text: the schema.
            tokenizer: the model's.

        Raises:
            UserError: if the text does not describe a constraint.
            ImportError: if a package for it is missing.
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
        constraint: describes what an answer must be; None if nothing can.
    """

    name: str
    serving: Serving
    tokenizer: Tokenizer
    max_length: int
    chat_template: str | None = None
    constraint: MakeConstraint | None = None

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
