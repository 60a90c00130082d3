"""Packs documents of any length into rows of one length.

A document of n + 1 ids (bos first, eos last) has n targets: every id but the first. It is cut into
pieces of at most `seq_len` targets that share one id with their neighbour: the last target of one
piece is the first input of the next. So each target is predicted in exactly one place. Pieces are
then put into rows; none is cut again, and a piece never sees another one in its row (they have
different segment ids).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from numpy.typing import NDArray

Piece = NDArray[Any]
"""[targets + 1] ids: the inputs are all but the last, the targets all but the first."""

Row = list[Piece]
"""Pieces with at most `seq_len` targets together."""

# Rows that wait for short pieces. With more of them fewer places stay empty: for pieces of 1 to 99
# targets in rows of 128, 16 leave 5.5 % empty, 64 leave 1.7 %, and 256 leave 1.3 %.
_OPEN_ROWS = 64


def pieces(document: Piece, seq_len: int) -> Iterator[Piece]:
    """Cuts a document's ids into pieces of at most `seq_len` targets."""
    for start in range(0, len(document) - 1, seq_len):
        yield document[start : start + seq_len + 1]


def pack(documents: Iterable[Piece], seq_len: int) -> Iterator[Row]:
    """Puts each piece into the fullest row that has room for it (best fit, arXiv:2404.10830).

    A bounded number of rows is open at a time, so memory does not grow with the data; when one more
    is needed, the one that waited longest is closed as it is.
    """
    rows: list[tuple[int, Row]] = []  # (room left, pieces), longest waiting first
    for document in documents:
        for piece in pieces(document, seq_len):
            needed = len(piece) - 1
            fitting = [(room, i) for i, (room, _) in enumerate(rows) if room >= needed]
            room, row = rows.pop(min(fitting)[1]) if fitting else (seq_len, [])
            row.append(piece)
            if room == needed:
                yield row
                continue
            rows.append((room - needed, row))
            if len(rows) > _OPEN_ROWS:
                yield rows.pop(0)[1]
    for _, row in rows:
        yield row
