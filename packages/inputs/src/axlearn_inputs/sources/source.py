"""What a source of documents promises."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from axlearn_core.config import Configurable
from axlearn_core.errors import UserError

Position = Mapping[str, int]
"""Small JSON: where reading goes on, such as `{"file": 3, "record": 17}`."""


class Found(NamedTuple):
    """A document, and the position behind it."""

    text: str
    after: Position


class DocumentError(UserError):
    """A document, or the file that should hold it, cannot be read; says which one.

    Attributes:
        after: the position behind the document, if others can still be read there.
    """

    def __init__(self, message: str, after: Position | None = None):
        super().__init__(message)
        self.after = after


class DocumentSource(Configurable, abc.ABC):
    """Documents of text in an order that is always the same."""

    class Config(Configurable.Config):
        """A source's fields."""

    @abc.abstractmethod
    def read(self, split: str, after: Position | None = None) -> Iterator[Found]:
        """Yields the documents of a split once: all of them, or those behind a position.

        Raises:
            DocumentError: naming the file and the record.
        """

    @abc.abstractmethod
    def describe(self, split: str) -> dict[str, Any]:
        """Returns small JSON that tells this split from another, without reading the text."""
