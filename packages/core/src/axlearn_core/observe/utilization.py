"""What the devices of a run can do at best, and how full they are."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax

from axlearn_core.hardware import CPU, MemoryReading, backend_of
from axlearn_core.plugins import get_registry

_MEASURED = "cpu-peak-flops.json"


class Utilization:
    """Reads devices of one kind, through the hardware package of their platform.

    Args:
        devices: of the mesh, of all processes.
        dtype: in which the model computes.
        folder: where what was measured is kept for the next process, or None.
    """

    def __init__(self, devices: Sequence[jax.Device], dtype: str, folder: Path | None):
        self._devices = devices
        self._dtype = dtype
        self._folder = folder
        self._hardware = backend_of(devices[0].platform, get_registry())

    def peak_flops(self) -> float | None:
        """Returns operations per second of all devices together, or None if that is unknown.

        No table lists CPUs, so that of a CPU is measured in a fraction of a second, once for each
        machine: call this while nothing else computes.
        """
        hardware = self._hardware
        if hardware is None:
            return None
        if isinstance(hardware, CPU) and not hardware.chips[0].peak_flops:
            return _measured_peak(self._folder)
        return hardware.peak_flops(self._devices, self._dtype)

    def memory(self) -> int | None:
        """Returns the bytes in use on the fullest device of this process, or None."""
        return max((r.in_use for r in self._memory() if r.in_use is not None), default=None)

    def readings(self) -> dict[str, float]:
        """Returns what else is known of this process's devices.

        Their peak so far, `memory_peak_bytes`, and what the backend tells, as `device_...`.
        """
        if self._hardware is None:
            return {}
        told = {f"device_{name}": value for name, value in self._hardware.readings().items()}
        peaks = [reading.peak for reading in self._memory() if reading.peak is not None]
        return {"memory_peak_bytes": float(max(peaks)), **told} if peaks else told

    def _memory(self) -> list[MemoryReading]:
        if self._hardware is None:
            return []
        local = [d for d in self._devices if d.process_index == jax.process_index()]
        return [self._hardware.memory(device) for device in local]


@functools.cache
def _measured_peak(folder: Path | None) -> float:
    """Returns the CPU's float32 peak as an earlier process measured it, or measures it.

    bfloat16 is no faster in jax on CPUs, so this is the bar for any dtype.
    """
    machine = CPU().probe(os.environ).description
    known: dict[str, float] = {}
    if folder is not None:
        with contextlib.suppress(OSError, ValueError):  # not measured yet, or cut short
            known = json.loads((folder / _MEASURED).read_text(encoding="utf-8"))
    if machine not in known:
        known[machine] = CPU().calibrate(size=768, rounds=10)
        if folder is not None:
            with contextlib.suppress(OSError):  # then the next process measures again
                folder.mkdir(parents=True, exist_ok=True)
                (folder / _MEASURED).write_text(json.dumps(known, indent=1), encoding="utf-8")
    return known[machine]
