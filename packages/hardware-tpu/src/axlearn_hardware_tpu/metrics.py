"""How busy this host's TPUs are, as libtpu's monitoring tells."""

from __future__ import annotations

from typing import Any


def read() -> dict[str, float]:
    """Returns `utilization` (fraction of the last sample period in which the TPU ran) and
    `tensor_core_utilization` (fraction of its matrix units' rate), each the mean of all TPUs.

    Empty where libtpu is not there; a value that it does not tell is left out.
    """
    try:
        from libtpu.sdk import tpumonitoring
    except ImportError:
        return {}
    metrics = {"utilization": "duty_cycle_pct", "tensor_core_utilization": "tensorcore_util"}
    readings = {name: _mean(tpumonitoring, metric) for name, metric in metrics.items()}
    return {name: value for name, value in readings.items() if value is not None}


def _mean(monitoring: Any, metric: str) -> float | None:
    try:
        percents = [float(text) for text in monitoring.get_metric(metric).data()]
    except (RuntimeError, ValueError):  # an older libtpu, or one that is busy with something else
        return None
    return sum(percents) / len(percents) / 100 if percents else None
