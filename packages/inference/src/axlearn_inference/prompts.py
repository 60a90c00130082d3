"""Prompts as rows that begin at the left, which is what `extend` reads.

Positions of a cache count from 0, so a prompt begins at the first column of its row, and padding
follows it. These functions bring rows of other kinds into this form, and what was computed back.
They are numpy: they run once per batch, on the host.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Ids = np.ndarray[Any, np.dtype[np.int32]]


class Prompts(NamedTuple):
    """Right-padded rows."""

    input_ids: Ids  # [prompts, seq]; 0 is padding
    lengths: Ids  # [prompts], how many ids count

    # Where each prompt came from, [prompts]: its row and its first column.
    rows: Ids
    starts: Ids


def from_lists(prompts: list[list[int]], seq: int | None = None) -> Prompts:
    """Returns rows of these ids, of the length `seq`; None is that of the longest."""
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    longest = int(lengths.max(initial=0))
    width = longest if seq is None else seq
    if width < longest:
        raise ValueError(f"seq (={width}) must be at least the longest prompt's {longest} ids")
    ids = np.zeros((len(prompts), width), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    count = len(prompts)
    return Prompts(ids, lengths, np.arange(count, dtype=np.int32), np.zeros(count, np.int32))


def from_rows(input_ids: Any, segment_ids: Any) -> Prompts:
    """Takes prompts out of rows that are padded at any side, or packed.

    Args:
        input_ids: [batch, seq] int.
        segment_ids: [batch, seq] int, 0 is padding; equal neighbours are one prompt. The attention
            mask of other libraries, 1 for ids and 0 for padding, is of this kind.

    Returns:
        The prompts of the first row from left to right, then those of the second, and so on.
    """
    input_ids, segments = np.asarray(input_ids), np.asarray(segment_ids)
    before = np.pad(segments[:, :-1], [(0, 0), (1, 0)])
    after = np.pad(segments[:, 1:], [(0, 0), (0, 1)])
    rows, starts = np.nonzero((segments != 0) & (segments != before))
    _, last = np.nonzero((segments != 0) & (segments != after))
    spans = zip(rows, starts, last + 1, strict=True)
    made = from_lists([input_ids[row, start:end].tolist() for row, start, end in spans])
    return made._replace(rows=rows.astype(np.int32), starts=starts.astype(np.int32))


def to_rows(values: Any, prompts: Prompts, batch: int, seq: int) -> np.ndarray[Any, Any]:
    """Puts what belongs to the ids of prompts where the ids came from; the inverse of `from_rows`.

    Args:
        values: [prompts, seq of the prompts, ...], such as ids or log probabilities.
        prompts: as `from_rows` returned them.
        batch, seq: the shape of the rows.

    Returns:
        [batch, seq, ...], 0 at padding.
    """
    values = np.asarray(values)
    rows = np.zeros((batch, seq, *values.shape[2:]), values.dtype)
    for value, length, row, start in zip(
        values, prompts.lengths, prompts.rows, prompts.starts, strict=True
    ):
        rows[row, start : start + length] = value[:length]
    return rows
