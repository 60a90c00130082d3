"""How fast a run goes: tokens per second, utilisation, waiting for data, memory, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Performance:
    """Measures between two logged steps.

    Args:
        tokens_per_step: in a global batch, padding included.
        flops_per_step: that the model needs, or None if it does not tell.
        peak_flops: of all devices together, per second, or None if unknown.
        memory: returns the bytes in use on the fullest device, or None.
        readings: returns what else the devices tell of themselves.
    """

    def __init__(
        self,
        *,
        tokens_per_step: int,
        flops_per_step: float | None,
        peak_flops: float | None,
        memory: Callable[[], int | None],
        readings: Callable[[], Mapping[str, float]] = dict,
    ):
        self._tokens_per_step = tokens_per_step
        self._flops_per_step = flops_per_step
        self._peak_flops = peak_flops
        self._memory = memory
        self._readings = readings
        self._since: tuple[int, float, float] | None = None

    def start(self, step: int, waited: float) -> None:
        """Begins an interval, leaving out what came before (an evaluation, say)."""
        self._since = (step, time.perf_counter(), waited)

    def measure(self, step: int, waited: float) -> dict[str, float]:
        """Ends an interval and begins the next.

        Args:
            step: the newest step whose values have arrived.
            waited: seconds spent waiting for data so far.

        Returns:
            `seconds_per_step`, `tokens_per_second`, `data_wait` (fraction of the time), and, where
            they are known, `mfu` (fraction of the peak), `memory_bytes` and the `readings`.
        """
        now = time.perf_counter()
        assert self._since is not None
        first, began, waited_before = self._since
        self._since = (step, now, waited)
        seconds = now - began
        if step <= first or seconds <= 0:
            return {}
        per_step = seconds / (step - first)
        values = {
            "seconds_per_step": per_step,
            "tokens_per_second": self._tokens_per_step / per_step,
            "data_wait": min(1.0, (waited - waited_before) / seconds),
        }
        if self._flops_per_step is not None and self._peak_flops is not None:
            values["mfu"] = self._flops_per_step / per_step / self._peak_flops
        if (used := self._memory()) is not None:
            values["memory_bytes"] = float(used)
        return {**values, **self._readings()}
