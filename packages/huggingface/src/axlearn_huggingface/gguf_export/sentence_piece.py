"""The file of a SentencePiece model, of whose message only the fields below are read.

Its pieces have the types that llama.cpp has, by the same numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from axlearn_core.errors import UserError

UNIGRAM, MERGES = 1, 2  # kinds of models


@dataclass
class SentencePieceModel:
    """What the file says.

    Attributes:
        kind: UNIGRAM, MERGES or another.
        pieces, scores, types: of each id.
        prefix: whether a space is put before a text.
        trims: whether spaces beside others and at the ends are removed.
        charsmap: how characters are normalised; empty, not at all.
    """

    kind: int = UNIGRAM
    pieces: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    prefix: bool = True
    trims: bool = True
    charsmap: bytes = b""


def read_model(path: Path) -> SentencePieceModel:
    """Reads a file `tokenizer.model`.

    Raises:
        UserError: if it is none.
    """
    found = SentencePieceModel()
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1:
                piece = dict(_fields(_bytes(value)))
                found.pieces.append(_bytes(piece[1]).decode())
                found.scores.append(struct.unpack("<f", _bytes(piece.get(2, bytes(4))))[0])
                found.types.append(_int(piece.get(3, 1)))
            elif number == 2:
                found.kind = _int(dict(_fields(_bytes(value))).get(3, UNIGRAM))
            elif number == 3:
                normalizer = dict(_fields(_bytes(value)))
                found.charsmap = _bytes(normalizer.get(2, b""))
                found.prefix = bool(normalizer.get(3, 1))
                found.trims = bool(normalizer.get(4, 1))
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise UserError(f"{path} is no SentencePiece model: {error}") from error
    if not found.pieces:
        raise UserError(f"{path} is no SentencePiece model: it has no pieces")
    return found


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the number and the value of a message's fields, as protocol buffers write them."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(wire)
            if wire == 2:
                size, at = _varint(message, at)
            if size is None or at + size > len(message):
                raise ValueError(f"a field at byte {at} is none")
            value, at = message[at : at + size], at + size
        yield number, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    found, shift = 0, 0
    while True:
        byte = message[at]
        found |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return found, at


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError(f"{value} is no text")
    return value


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise TypeError(f"{value!r} is no number")
    return value
