"""The CPU backend: the one that every machine has."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from axlearn_core.hardware.contract import (
    Chip,
    EnvironmentSetting,
    Hardware,
    HardwareError,
    MemoryReading,
    Probe,
    Topology,
    explicit_cluster,
    slurm_cluster,
)

if TYPE_CHECKING:
    import jax

PEAK_FLOPS: Final = "AXLEARN_CPU_PEAK_FLOPS"


class CPU(Hardware):
    """The host's processor. Virtual devices (`jax_num_cpu_devices`) share it and its memory.

    Nobody publishes a CPU's peak where it could be looked up, and cores times frequency is wrong
    by the width of the vector units. So it is unknown, unless AXLEARN_CPU_PEAK_FLOPS gives it (of
    the whole host, float32, per second) or `calibrate` measures it.
    """

    platform = "cpu"

    def __init__(self) -> None:
        self.chips = (
            Chip(
                name="host",
                device_kinds=("cpu",),
                peak_flops=_given_peak(os.environ),
                memory_bytes=_memory_limit(),
                memory_bandwidth=None,
                interconnect="",
                interconnect_bandwidth=None,
                source=f"{PEAK_FLOPS}, or measured on this machine",
                shared=True,
            ),
        )

    def calibrate(self, size: int = 1024, rounds: int = 5) -> float:
        """Measures the float32 peak with matrix products; about 0.3 s on a laptop.

        Args:
            size: Of the square matrices.
            rounds: How often to multiply; the fastest counts, since others may use the machine.
        """
        import jax
        import jax.numpy as jnp

        matrix = jnp.ones((size, size), jnp.float32)
        multiply = jax.jit(jnp.matmul)
        jax.block_until_ready(multiply(matrix, matrix))
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            jax.block_until_ready(multiply(matrix, matrix))
            seconds.append(time.perf_counter() - start)
        peak = 2 * size**3 / min(seconds)
        self.chips = (replace(self.chips[0], peak_flops={"float32": peak}),)
        return peak

    def probe(self, environment: Mapping[str, str]) -> Probe:
        return Probe("cpu", 1, f"{_processor()}, {os.cpu_count()} cores")

    def missing(self) -> None:
        return None

    def settings(self) -> tuple[EnvironmentSetting, ...]:
        """Gives virtual devices the threads in which to wait for one another.

        Each collective of each device holds a thread until the others come. XLA has as many as
        there are cores, and fewer than a program with several collectives needs at once may wait
        for ever.
        """
        devices = _virtual_devices(os.environ)
        if devices <= (os.cpu_count() or 1):
            return ()
        return (EnvironmentSetting("NPROC", str(4 * devices), f"threads for {devices} devices"),)

    def prepare_process(self) -> None:
        """Lets the C library keep the memory that is freed from here on, and only that.

        XLA frees its temporary buffers after every step. Handed back to the kernel, they come again
        as pages to be cleared: a sixth of the time of a small step. What the compiler has left is
        handed back first; in pieces, it is of no use to a step.
        """
        if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # glibc
            libc.malloc_trim(0)
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, -1)
            libc.mallopt(_M_TOP_PAD, 64 << 20)

    def topologies(self) -> tuple[Topology, ...]:
        return ()

    def compile_settings(self, count: int) -> tuple[EnvironmentSetting, ...]:
        return (
            EnvironmentSetting(
                "JAX_NUM_CPU_DEVICES", str(count), "virtual devices that share this processor"
            ),
        )

    def compile_only_devices(self, chip: Chip, count: int) -> Sequence[jax.Device]:
        import jax

        present = jax.devices("cpu")
        if len(present) < count:
            raise HardwareError(
                f"jax has started with {len(present)} CPU devices: start with "
                f"JAX_NUM_CPU_DEVICES={count}"
            )
        return present[:count]

    def memory(self, device: jax.Device) -> MemoryReading:
        """Returns the resident memory of this process, which all its devices share."""
        return MemoryReading(_status("VmRSS"), _status("VmHWM"), _memory_limit())

    def distributed_arguments(self, environment: Mapping[str, str]) -> dict[str, object] | None:
        explicit = explicit_cluster(environment)
        return slurm_cluster(environment) if explicit is None else explicit


# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def _virtual_devices(environment: Mapping[str, str]) -> int:
    """Returns how many devices jax is told to make of this processor."""
    forced = re.findall(r"host_platform_device_count=(\d+)", environment.get("XLA_FLAGS", ""))
    asked = [environment.get("JAX_NUM_CPU_DEVICES", ""), *forced]
    return max((int(number) for number in asked if number.isdigit()), default=1)


def _given_peak(environment: Mapping[str, str]) -> dict[str, float]:
    given = environment.get(PEAK_FLOPS)
    if given is None:
        return {}
    try:
        peak = float(given)
    except ValueError:
        peak = 0.0
    if not peak > 0:
        raise HardwareError(
            f"{PEAK_FLOPS} must be operations per second, such as 180e9, got {given!r}"
        )
    return {"float32": peak}


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _status(key: str) -> int | None:
    for line in _lines("/proc/self/status"):
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024  # the kernel says kB and means KiB
    return None


def _memory_limit() -> int | None:
    """Returns the memory of the machine, or of the container if that is less."""
    limits = [
        int(line.split()[1]) * 1024
        for line in _lines("/proc/meminfo")
        if line.startswith("MemTotal:")
    ]
    limits += [int(line) for line in _lines("/sys/fs/cgroup/memory.max") if line.isdigit()]
    return min(limits, default=None)


def _lines(path: str) -> list[str]:
    """Reads a file of the Linux kernel; other systems have none, and nothing is known there."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
