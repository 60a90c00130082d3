"""What a filter promises, and a chain of them that counts what each drops."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

from axlearn_core.config import Configurable


class DocumentFilter(Configurable, abc.ABC):
    """Says which documents are left out.

    Attributes:
        stateless: whether the answer depends on the document alone. Only such filters can be used
            on a stream, whose place in a checkpoint is small.
    """

    stateless: ClassVar[bool] = True

    class Config(Configurable.Config):
        """A filter's fields."""

    @abc.abstractmethod
    def drops(self, text: str) -> bool:
        """Says whether a document is left out."""


class FilterChain:
    """Asks filters in turn, up to the first that drops a document.

    Attributes:
        dropped: how many documents each filter has dropped so far, by its name.
    """

    def __init__(self, filters: Mapping[str, DocumentFilter]):
        self._filters = filters
        self.dropped = dict.fromkeys(filters, 0)

    def keeps(self, text: str) -> bool:
        for name, document_filter in self._filters.items():
            if document_filter.drops(text):
                self.dropped[name] += 1
                return False
        return True
