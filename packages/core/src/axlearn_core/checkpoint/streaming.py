"""Writes a checkpoint whose arrays come part by part, and thus need not fit into memory.

The layout is that of every checkpoint, down to what Orbax looks for, so whatever reads one reads
these: a zarr per array with a file per chunk.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from axlearn_core.checkpoint.arrays import STATE
from axlearn_core.checkpoint.catalog import step_folder
from axlearn_core.checkpoint.checkpointer import RUN, CheckpointError
from axlearn_core.checkpoint.manifest import write_manifest


class Part(NamedTuple):
    """What lies at an index of an array's leading axes, such as one layer of a stack."""

    name: str  # of the array, such as params.decoder.norm.scale
    indices: tuple[int, ...]  # one for each leading axis that is cut; none is the whole array
    array: NDArray[Any]


def write_streamed(
    directory: Path,
    step: int,
    like: Mapping[str, jax.ShapeDtypeStruct],
    parts: Iterable[Part],
    facts: Mapping[str, Any],
    texts: Mapping[str, str],
) -> Path:
    """Writes the checkpoint of a step, and returns its folder.

    A file is what a device holds of a part. Nothing but the part at hand is in memory.

    Args:
        directory: of a run.
        step: names the checkpoint.
        like: shape, dtype and sharding of each array, by name.
        parts: every element of every array, once.
        facts: small JSON, kept as `run.json`.
        texts: further files by name.

    Raises:
        CheckpointError: if parts and arrays do not fit together.
    """
    folder = step_folder(directory, step)
    state = folder / STATE
    missing = {name: math.prod(struct.shape) for name, struct in like.items()}
    for part in parts:
        if part.name not in like:
            raise CheckpointError(f"there is no array {part.name} in this state")
        _check(part, like[part.name])
        _write(state, part, like[part.name])
        missing[part.name] -= part.array.size
    if wrong := [name for name, left in missing.items() if left]:
        raise CheckpointError(f"not every element was given once of {', '.join(wrong)}")
    (state / "_METADATA").write_text(json.dumps(_orbax_metadata(like)), encoding="utf-8")
    for name, text in {RUN: json.dumps(facts, indent=1), **texts}.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_manifest(folder, step)
    return folder


def _check(part: Part, like: jax.ShapeDtypeStruct) -> None:
    cut = len(part.indices)
    inside = all(0 <= i < n for i, n in zip(part.indices, like.shape, strict=False))
    if part.array.shape != like.shape[cut:] or part.array.dtype != like.dtype or not inside:
        raise CheckpointError(
            f"{part.name}{list(part.indices)} is {part.array.dtype.name}{list(part.array.shape)}, "
            f"expected {like.dtype.name}{list(like.shape[cut:])}, a part of {list(like.shape)}"
        )


def _write(state: Path, part: Part, like: jax.ShapeDtypeStruct) -> None:
    where, cut = state / part.name, len(part.indices)
    shard = like.shape if like.sharding is None else like.sharding.shard_shape(like.shape)
    if not where.exists():
        where.mkdir(parents=True)
        described = _zarr_metadata(like, (*[1] * cut, *shard[cut:]))
        (where / ".zarray").write_text(json.dumps(described), encoding="utf-8")
    sizes = shard[cut:]
    counts = (n // size for n, size in zip(part.array.shape, sizes, strict=True))
    for at in itertools.product(*map(range, counts)):
        place = tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, sizes, strict=True))
        key = ".".join(map(str, (*part.indices, *at))) or "0"
        np.ascontiguousarray(part.array[place]).tofile(where / key)


def _zarr_metadata(like: jax.ShapeDtypeStruct, chunk: tuple[int, ...]) -> dict[str, Any]:
    dtype = np.dtype(like.dtype)
    known = dtype.kind != "V"  # numpy's own; others, such as bfloat16, go by their names
    return {
        "zarr_format": 2,
        "shape": list(like.shape),
        "chunks": list(chunk),
        "dtype": dtype.str if known else dtype.name,
        "compressor": None,
        "filters": None,
        "fill_value": None,
        "order": "C",
        "dimension_separator": ".",
    }


def _orbax_metadata(like: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """Returns what Orbax keeps of a flat tree of arrays; its key type 2 is that of dicts."""
    return {
        "tree_metadata": {
            str((name,)): {
                "key_metadata": [{"key": name, "key_type": 2}],
                "value_metadata": {
                    "value_type": "jax.Array",
                    "skip_deserialize": False,
                    "write_shape": list(struct.shape),
                },
            }
            for name, struct in like.items()
        },
        "use_ocdbt": False,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
