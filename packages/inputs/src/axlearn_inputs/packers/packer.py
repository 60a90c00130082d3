"""What a packer promises.

A document of n + 1 ids (bos first, eos last) has n targets: every id but the first. It is cut into
pieces that share one id with their neighbour: the last target of one piece is the first input of
the next. So each target is predicted in exactly one place. Pieces are then put into rows; a piece
never sees another one in its row (they have different segment ids).
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from typing import Any

from numpy.typing import NDArray

from axlearn_core.config import Configurable

Piece = NDArray[Any]
"""[targets + 1] ids: the inputs are all but the last, the targets all but the first."""

Row = list[Piece]
"""Pieces with at most `seq_len` targets together."""


class Packer(Configurable, abc.ABC):
    """Puts documents of any length into rows of one length."""

    class Config(Configurable.Config):
        """A packer's fields."""

    @abc.abstractmethod
    def pack(self, documents: Iterable[Piece], seq_len: int) -> Iterator[Row]:
        """Yields rows with every target of every document in exactly one of them."""
