"""How busy this process's GPUs are, as NVIDIA's management library tells."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from axlearn_hardware_gpu.visible import visible_devices


def read(environment: Mapping[str, str]) -> dict[str, float]:
    """Returns `utilization` (fraction of the last second or so in which a kernel ran, the mean of
    all GPUs), `power_watts` (the sum) and `temperature_celsius` (the hottest).

    Empty where the library is not there. A value that some GPU does not tell is left out.

    Args:
        environment: CUDA_VISIBLE_DEVICES there says which GPUs are this process's.
    """
    nvml = _library()
    if nvml is None:
        return {}
    gpus = _handles(nvml, visible_devices(environment))
    kinds: dict[str, tuple[Callable[[Any], float], Callable[[list[float]], float]]] = {
        "utilization": (lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100, _mean),
        "power_watts": (lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000, sum),
        "temperature_celsius": (lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, 0), max),
    }
    readings: dict[str, float] = {}
    for name, (ask, together) in kinds.items():
        try:
            values = [ask(gpu) for gpu in gpus]
        except nvml.NVMLError:  # such as the utilisation of a slice of a GPU (MIG)
            continue
        if values:
            readings[name] = float(together(values))
    return readings


@functools.cache
def _library() -> Any | None:
    """Returns the library, started; None on a host without it or NVIDIA's driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _handles(nvml: Any, visible: list[str] | None) -> list[Any]:
    if visible is None:
        return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    return [
        nvml.nvmlDeviceGetHandleByIndex(int(word))
        if word.isdigit()
        else nvml.nvmlDeviceGetHandleByUUID(word)
        for word in visible
    ]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
