"""A request on its way through the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from axlearn_inference.engine.pages import page_key
from axlearn_inference.request import FinishReason, Matcher, Request, Token
from axlearn_inference.text import TextStream


@dataclass(eq=False)
class Sequence:
    """A request, its text so far, and where in the cache it is.

    Attributes:
        number: of arrival; the earlier one goes first.
        request: as it was asked.
        limit: how many ids prompt and text have at most.
        root: what keys and values depend on beside the ids; see `page_key`.
        deadline: in seconds on the engine's clock.
        matcher: of the request's constraint.
        text: of the ids after the prompt; None if they stand for none.
        ids: prompt and text.
        computed: of how many ids the cache holds keys and values.
        slot: its row of what the cache keeps per sequence; None while it waits.
        pages: of the pool, in order.
        keys: of its full pages, as far as they were needed.
        carried: contents of the cache, until they are written; see `handover`.
    """

    number: int
    request: Request
    limit: int
    root: bytes = b""
    deadline: float = math.inf
    matcher: Matcher | None = None
    text: TextStream | None = None
    ids: list[int] = field(default_factory=list)
    computed: int = 0
    slot: int | None = None
    pages: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    carried: Any = None

    def __post_init__(self) -> None:
        self.ids = self.ids or list(self.request.prompt)

    @property
    def text_length(self) -> int:
        """How many ids follow the prompt."""
        return len(self.ids) - len(self.request.prompt)

    @property
    def missing(self) -> int:
        """How many ids the cache does not hold; 1 is a decoding step."""
        return len(self.ids) - self.computed

    def append(self, token: Token) -> Token:
        """Adds an id, and returns it with the text that it makes certain, and why it is the last.

        An end id and what completes a stop string are no part of the text.
        """
        self.ids.append(token.id)
        if token.id in self.request.end_ids:
            finish: FinishReason | None = "stop"
            piece = ""
        else:
            piece = "" if self.text is None else self.text.feed(token.id)
            if self.matcher is not None:
                self.matcher.accept(token.id)
            finish = self._finish_reason()
        if finish is not None and self.text is not None:
            piece += self.text.flush()
        return token._replace(finish=finish, text=piece)

    def keys_of(self, count: int, page_size: int) -> list[bytes]:
        """Returns the keys of the first `count` pages, which must be full."""
        for index in range(len(self.keys), count):
            parent = self.keys[-1] if self.keys else self.root
            page = self.ids[index * page_size : (index + 1) * page_size]
            self.keys.append(page_key(parent, page))
        return self.keys[:count]

    def _finish_reason(self) -> FinishReason | None:
        if self.text is not None and self.text.stopped:
            return "stop"
        if self.matcher is not None and self.matcher.ended:
            return "stop"
        return "length" if len(self.ids) >= self.limit else None
