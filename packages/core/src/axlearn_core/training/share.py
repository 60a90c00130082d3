"""Which rows of a global batch this process reads, and how they get onto the mesh."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from axlearn_core.config import ConfigError
from axlearn_core.parallel import Placement
from axlearn_core.training.input import BatchIterator, Input
from axlearn_core.training.model import Batch


@dataclass(frozen=True)
class BatchShare:
    """One of `count` equal, contiguous blocks of a batch's rows."""

    index: int
    count: int


def batch_share(placement: Placement) -> BatchShare:
    """Returns the smallest block that holds all rows that this process's devices hold.

    Processes whose devices hold the same rows, since they split a batch along other axes of the
    mesh, have the same block: each of them reads it. Where a process's rows lie scattered, its
    block has other rows, too, of which nothing is placed.

    Raises:
        ConfigError: if no device of this process is in the mesh.
    """
    return _share(placement.batch(1))


def local_batches(source: Input, placement: Placement) -> BatchIterator:
    """Returns an iterator over this process's share of an input's batches."""
    share = batch_share(placement)
    return source.batches(process_index=share.index, process_count=share.count)


def place_batch(batch: dict[str, Any], placement: Placement) -> Batch:
    """Makes global arrays of this process's share of a batch."""
    share = batch_share(placement)
    return {
        name: _place(np.asarray(value), share, placement.batch(value.ndim))
        for name, value in batch.items()
    }


def _place(local: np.ndarray[Any, Any], share: BatchShare, sharding: NamedSharding) -> jax.Array:
    rows = len(local) * share.count
    first = len(local) * share.index

    def part(index: tuple[slice, ...] | None) -> np.ndarray[Any, Any]:
        assert index is not None  # which it is only for devices that are not in the mesh
        start, stop, _ = index[0].indices(rows)
        return local[(slice(start - first, stop - first), *index[1:])]

    return jax.make_array_from_callback((rows, *local.shape[1:]), sharding, part)


@functools.lru_cache
def _share(sharding: NamedSharding) -> BatchShare:
    mesh = sharding.mesh
    axes = sharding.spec[0] or ()
    ways = 1
    for axis in (axes,) if isinstance(axes, str) else axes:
        ways *= mesh.shape[axis]
    held = [
        index[0].indices(ways)
        for index in sharding.addressable_devices_indices_map((ways,)).values()
        if index is not None
    ]
    if not held:
        raise ConfigError(
            f"the mesh {dict(mesh.shape)} leaves out all devices of process {jax.process_index()}, "
            f"of {jax.process_count()}. Write -1 for one axis of mesh_shape to use all devices, or "
            "start fewer processes"
        )
    low, high = min(start for start, _, _ in held), max(stop for _, stop, _ in held)
    return smallest_block(low, high, ways)


def smallest_block(low: int, high: int, rows: int) -> BatchShare:
    """Returns the smallest of equal blocks of `rows` that holds the rows from low to high - 1."""
    counts = (n for n in range(rows // (high - low), 0, -1) if rows % n == 0)
    sizes = ((rows // count, count) for count in counts)
    return next(BatchShare(low // n, c) for n, c in sizes if low // n == (high - 1) // n)
