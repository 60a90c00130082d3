"""Packing that leaves no place empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from axlearn_inputs.packers.packer import Packer, Piece, Row


class ConcatenatingPacker(Packer):
    """Puts documents one after the other and cuts them where a row is full.

    Every row but the last is full. In exchange a document that could have been whole is cut, and
    what follows the cut does not see what is before it (arXiv:2404.10830 measures what that costs).
    """

    def pack(self, documents: Iterable[Piece], seq_len: int) -> Iterator[Row]:
        row, room = Row(), seq_len
        for document in documents:
            start, last = 0, len(document) - 1
            while start < last:
                stop = min(start + room, last)
                row.append(document[start : stop + 1])
                room -= stop - start
                start = stop
                if not room:
                    yield row
                    row, room = Row(), seq_len
        if row:
            yield row
