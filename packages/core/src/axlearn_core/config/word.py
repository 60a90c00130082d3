"""Values that are written as text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Word(ABC):
    """An immutable value whose `str` says all of it, so that `parse(str(value)) == value`.

    A field of such a type takes the text too: from an override, a JSON file, or an assignment.
    """

    @classmethod
    @abstractmethod
    def parse(cls, text: str) -> Self:
        """Reads what `str` writes.

        Raises:
            ValueError: for any other text; the message says what would make sense.
        """

    @abstractmethod
    def __str__(self) -> str: ...
