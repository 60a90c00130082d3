"""A packed row as bytes in a file, and as arrays in a batch.

A record is `uint32 n`, `uint32 targets[n]`, then the ids of the n pieces one after the other, in
the smallest unsigned type that holds the vocabulary. All little-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from axlearn_core.training.input import Batch, BatchShape
from axlearn_inputs.packers import Row

_COUNT = np.dtype("<u4")

ROW_ARRAYS: Final[dict[str, np.dtype[np.generic]]] = {
    "input_ids": np.dtype(np.int32),
    "target_ids": np.dtype(np.int32),  # target_ids[i] follows input_ids[i]
    "target_weights": np.dtype(np.float32),  # 0 where there is nothing to predict
    "segment_ids": np.dtype(np.int32),  # 1, 2, ... for the pieces of a row, 0 for padding
    "positions": np.dtype(np.int32),  # from 0 in each piece
}


def batch_shape(batch_size: int, seq_len: int) -> BatchShape:
    """Returns shape and dtype of each array of a batch of packed rows."""
    return {name: ((batch_size, seq_len), dtype) for name, dtype in ROW_ARRAYS.items()}


def empty_batch(rows: int, seq_len: int, pad_id: int) -> Batch:
    """Returns a batch of nothing but padding."""
    batch = {name: np.zeros((rows, seq_len), dtype) for name, dtype in ROW_ARRAYS.items()}
    batch["input_ids"].fill(pad_id)
    batch["target_ids"].fill(pad_id)
    return batch


def id_dtype(vocab_size: int) -> np.dtype[np.generic]:
    """Returns the type that ids are stored in."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def encode_row(row: Row, dtype: np.dtype[np.generic]) -> bytes:
    """Writes a row as a record."""
    header = np.array([len(row), *(len(piece) - 1 for piece in row)], _COUNT)
    return header.tobytes() + b"".join(piece.astype(dtype).tobytes() for piece in row)


def decode_row(record: bytes, dtype: np.dtype[np.generic]) -> Row:
    """Reads what `encode_row` wrote.

    Raises:
        ValueError: for anything else.
    """
    count = int(np.frombuffer(record, _COUNT, count=1)[0]) if len(record) >= 4 else 0
    start = _COUNT.itemsize * (1 + count)
    if (
        not 0 < count <= len(record) // _COUNT.itemsize - 1
        or (len(record) - start) % dtype.itemsize
    ):
        raise ValueError(f"{len(record)} bytes are no row of {count} pieces")
    targets = np.frombuffer(record, _COUNT, count=count, offset=_COUNT.itemsize)
    ids = np.frombuffer(record, dtype, offset=start)
    ends = np.cumsum(targets.astype(np.int64) + 1)
    if ends[-1] != len(ids):
        raise ValueError(f"its pieces should have {ends[-1]} ids, and it has {len(ids)}")
    return np.split(ids, ends[:-1])


def fill_row(batch: Batch, index: int, row: Sequence[np.ndarray]) -> None:
    """Writes a row's pieces into row `index` of an empty batch."""
    start = 0
    for segment, piece in enumerate(row, start=1):
        stop = start + len(piece) - 1
        batch["input_ids"][index, start:stop] = piece[:-1]
        batch["target_ids"][index, start:stop] = piece[1:]
        batch["target_weights"][index, start:stop] = 1.0
        batch["segment_ids"][index, start:stop] = segment
        batch["positions"][index, start:stop] = np.arange(stop - start)
        start = stop
