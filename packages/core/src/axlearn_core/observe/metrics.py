"""Metrics on their way from the device to the host, without the loop waiting for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import jax
import numpy as np


class StepMetrics(NamedTuple):
    """The values of one step, on the host."""

    step: int
    values: dict[str, np.ndarray]


class _Pending(NamedTuple):
    step: int
    metrics: Mapping[str, jax.Array]
    data: Mapping[str, float]


_NOTHING: Mapping[str, float] = {}


class MetricsQueue:
    """Holds the metrics of the steps that are under way, oldest first.

    The loop adds each step's metrics and takes those that have arrived. At most `ahead` steps are
    under way: more would only keep batches in memory.

    Args:
        ahead: so many.
        in_step: a step's metrics are only given when `ahead` more are under way, so that all
            processes get them at the same point of the loop.
    """

    def __init__(self, ahead: int = 2, *, in_step: bool = False):
        self._ahead = ahead
        self._in_step = in_step
        self._pending: deque[_Pending] = deque()

    def add(
        self, step: int, metrics: Mapping[str, jax.Array], data: Mapping[str, float] = _NOTHING
    ) -> None:
        """Adds a step's metrics, and beside them what its data say, as `data/NAME`."""
        for value in metrics.values():
            value.copy_to_host_async()
        self._pending.append(_Pending(step, metrics, data))

    def arrived(self) -> Iterator[StepMetrics]:
        """Yields what is there, and waits only while more than `ahead` steps are under way."""
        while self._pending:
            oldest = self._pending[0]
            done = not self._in_step and all(
                cast(Any, value).is_ready() for value in oldest.metrics.values()
            )
            if not done and len(self._pending) <= self._ahead:
                return
            self._pending.popleft()
            yield _fetch(oldest)

    def drain(self) -> Iterator[StepMetrics]:
        """Waits for everything and yields it."""
        while self._pending:
            yield _fetch(self._pending.popleft())


def _fetch(pending: _Pending) -> StepMetrics:
    data = {f"data/{name}": np.asarray(value) for name, value in pending.data.items()}
    metrics = {name: np.asarray(value) for name, value in pending.metrics.items()}
    return StepMetrics(pending.step, metrics | data)


def scalars(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Flattens arrays to Python floats: a value per layer becomes `decoder/layer/norm/0`, ..."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if value.ndim == 0:
            flat[name] = float(value)
        else:
            for index in np.ndindex(value.shape):
                flat[f"{name}/{'/'.join(map(str, index))}"] = float(value[index])
    return flat
