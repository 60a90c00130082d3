"""Faults to put into a run on purpose: data that are bad, missing or late, and bits that flip."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from axlearn_core.testing import tiny
from axlearn_core.training.input import Batch, BatchIterator
from axlearn_core.training.trainer import Trainer


class FaultyCounting(tiny.Counting):
    """Counts, but for some batches, by number from 0."""

    class Config(tiny.Counting.Config):
        nan_at: list[int] = []  # whose loss is not finite
        spike_at: list[int] = []  # that count down, so that a model that learned to count is wrong
        empty_at: list[int] = []  # without any target
        raises_at: int | None = None
        hangs_at: int | None = None

    def batches(self, *, process_index: int = 0, process_count: int = 1) -> BatchIterator:
        inner = super().batches(process_index=process_index, process_count=process_count)
        return _FaultyBatches(inner, self.config)

    def describe(self) -> dict[str, Any]:
        return {"seed": self.config.seed}


class _FaultyBatches:
    def __init__(self, inner: BatchIterator, config: FaultyCounting.Config):
        self._inner, self._config = inner, config

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        cfg, number = self._config, self._inner.get_state()["made"]
        if number == cfg.raises_at:
            raise OSError("the disk is gone")
        while number == cfg.hangs_at:
            time.sleep(1)
        batch = next(self._inner)
        if number in cfg.nan_at:
            batch["target_weights"][0, 0] = np.nan
        if number in cfg.spike_at:
            batch["input_ids"], batch["target_ids"] = batch["target_ids"], batch["input_ids"]
        if number in cfg.empty_at:
            batch["target_weights"][:] = 0
        return batch

    def get_state(self) -> dict[str, Any]:
        return self._inner.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._inner.set_state(state)


def experiment() -> Trainer.Config:
    """The tiny experiment with data that can be told to fail, without evaluations."""
    cfg = tiny.experiment().set(evaluations={}, log_every=1)
    cfg.input = FaultyCounting.default_config().set(batch_size=8)
    return cfg


def flip_bit(x: jax.Array, *, device: int, bit: int = 12, element: int = 0) -> jax.Array:
    """Flips a bit of one element of one device's copy, and of no other.

    Args:
        x: of float32, whole or in parts on each of its devices.
        device: the place in the list of devices that hold a part.
        bit: 0 is the least one of the mantissa, 31 the sign.
        element: of that device's part, flattened.
    """
    parts = [np.array(shard.data) for shard in x.addressable_shards]
    parts[device].reshape(-1).view(np.uint32)[element] ^= np.uint32(1 << bit)
    placed = [
        jax.device_put(part, shard.device)
        for part, shard in zip(parts, x.addressable_shards, strict=True)
    ]
    return jax.make_array_from_single_device_arrays(x.shape, x.sharding, placed)
