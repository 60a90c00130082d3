"""The arrays of a checkpoint as they lie on the disk: which file holds which part of which.

Orbax writes each array as a zarr of its own, uncompressed, with a chunk for each shard: a file is
the bytes of one shard in C order. So damage has a name, and numpy alone reads an array.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

STATE = "state"  # the folder of the arrays in that of a checkpoint
_METADATA = ".zarray"

Range = tuple[int, int]  # from (included), to (excluded)


class ArrayInfo(NamedTuple):
    """An array on disk.

    Attributes:
        shape: of the whole.
        dtype: its name, such as "bfloat16".
        chunk: the shape of a file's part. At the far ends of an array it may be filled up.
        shards: what range of each dimension a file holds, by its path in the checkpoint's folder.
    """

    shape: tuple[int, ...]
    dtype: str
    chunk: tuple[int, ...]
    shards: dict[str, tuple[Range, ...]]

    @property
    def bytes(self) -> int:
        """The size of its elements."""
        return math.prod(self.shape) * numpy_dtype(self.dtype).itemsize


def find_arrays(folder: Path) -> dict[str, ArrayInfo]:
    """Returns the arrays of a checkpoint by name; none for one that an older version wrote."""
    found = {}
    for path in sorted((folder / STATE).rglob(_METADATA)):
        described = json.loads(path.read_text(encoding="utf-8"))
        if described["compressor"] is not None or described["order"] != "C":
            return {}
        where, shape, chunk = path.parent, described["shape"], described["chunks"]
        files = {}
        for at in itertools.product(*map(_parts, shape, chunk)):
            key = described["dimension_separator"].join(map(str, at)) or "0"
            ranges = tuple(
                (i * size, min((i + 1) * size, whole))
                for i, size, whole in zip(at, chunk, shape, strict=True)
            )
            files[(where / key).relative_to(folder).as_posix()] = ranges
        name = where.relative_to(folder / STATE).as_posix()
        dtype = described["dtype"]
        dtype = np.dtype(dtype).name if dtype[0] in "<|" else dtype
        found[name] = ArrayInfo(tuple(shape), dtype, tuple(chunk), files)
    return found


def read_array(folder: Path, info: ArrayInfo) -> NDArray[Any]:
    """Puts an array together from its files, without jax. Verify the checkpoint before."""
    dtype = numpy_dtype(info.dtype)
    array = np.empty(info.shape, dtype)
    for name, ranges in info.shards.items():
        part = np.fromfile(folder / name, np.uint8).view(dtype).reshape(info.chunk)
        inside = tuple(slice(0, to - start) for start, to in ranges)
        array[tuple(slice(*each) for each in ranges)] = part[inside]
    return array


def parameters_of(arrays: Mapping[str, ArrayInfo]) -> dict[str, ArrayInfo]:
    """Returns the parameters among a train state's arrays, by path: `decoder.norm.scale`."""
    kinds = ("params", "module_state")
    split = {name: name.partition(".") for name in arrays}
    return {rest: arrays[name] for name, (kind, _, rest) in split.items() if kind in kinds}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Returns the dtype of a name, which may be one that numpy has from ml_dtypes."""
    return np.dtype(getattr(ml_dtypes, name, name))


def shard_name(array: str, ranges: tuple[Range, ...]) -> str:
    """Writes an array's part as one would index it: `params.table[0:16, 8:16]`."""
    return f"{array}[{', '.join(f'{start}:{to}' for start, to in ranges)}]"


def arrays_to_json(arrays: Mapping[str, ArrayInfo]) -> dict[str, Any]:
    """Returns what `arrays_from_json` reads."""
    return {name: info._asdict() for name, info in arrays.items()}


def arrays_from_json(data: Any) -> dict[str, ArrayInfo]:
    """Reads arrays.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: for what `arrays_to_json` did not write.
    """
    return {
        str(name): ArrayInfo(
            tuple(map(int, each["shape"])),
            str(each["dtype"]),
            tuple(map(int, each["chunk"])),
            {
                str(file): tuple((int(start), int(to)) for start, to in ranges)
                for file, ranges in each["shards"].items()
            },
        )
        for name, each in data.items()
    }


def _parts(whole: int, size: int) -> range:
    return range(-(-whole // size))
