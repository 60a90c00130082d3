"""One process's part of a train state in one file: a line of JSON, then the bytes of its arrays."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

Piece = tuple[str, str]  # an array's name, and its index as text
Pieces = dict[Piece, np.ndarray[Any, Any]]


class Copy(NamedTuple):
    """What a file holds."""

    facts: dict[str, Any]
    pieces: Pieces


def write_copy(path: Path, facts: Mapping[str, Any], pieces: Pieces) -> None:
    """Writes a file, whole or not at all."""
    digest, entries = hashlib.sha256(), []
    for (name, index), array in pieces.items():
        digest.update(_bytes(array))
        entries.append([name, index, array.dtype.name, list(array.shape)])
    head = {"facts": facts, "pieces": entries, "sha256": digest.hexdigest()}
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as out:
        out.write(f"{json.dumps(head)}\n".encode())
        for array in pieces.values():
            out.write(_bytes(array))
    os.replace(partial, path)


def read_copy(data: bytes) -> Copy | None:
    """Returns what the bytes of a file hold, or None if they are damaged."""
    try:
        start = data.index(b"\n") + 1
        head, body = json.loads(data[:start]), memoryview(data)[start:]
        if hashlib.sha256(body).hexdigest() != head["sha256"]:
            return None
        pieces, offset = {}, 0
        for name, index, dtype, shape in head["pieces"]:
            kind = jnp.dtype(dtype)
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(body, kind, count, offset).reshape(shape)
            pieces[name, index] = array
            offset += array.nbytes
        return Copy(head["facts"], pieces)
    except (ValueError, KeyError, TypeError):
        return None


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
