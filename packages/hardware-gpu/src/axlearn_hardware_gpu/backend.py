"""NVIDIA GPUs as a hardware backend."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from axlearn_core.hardware import (
    Chip,
    EnvironmentSetting,
    Hardware,
    MemoryReading,
    Probe,
    Topology,
    device_memory,
    explicit_cluster,
    jax_mismatch,
    slurm_cluster,
)
from axlearn_hardware_gpu import nvml
from axlearn_hardware_gpu.chips import CHIPS
from axlearn_hardware_gpu.settings import SETTINGS
from axlearn_hardware_gpu.slurm import local_device_ids
from axlearn_hardware_gpu.targets import COMPILE_SETTINGS, EXTRA_OF_PLUGIN, compile_only_devices
from axlearn_hardware_gpu.visible import visible_devices

if TYPE_CHECKING:
    import jax


class NvidiaGPU(Hardware):
    """GPUs that the NVIDIA driver shows as device files.

    Args:
        root: Where device files and the driver's are looked for.
    """

    platform = "gpu"
    chips = CHIPS

    def __init__(self, root: Path = Path("/")):
        self._root = root

    def probe(self, environment: Mapping[str, str]) -> Probe | None:
        count = self._count()
        if (visible := visible_devices(environment)) is not None:
            count = min(count, len(visible))
        if count == 0:
            return None
        models = " and ".join(sorted(set(self._models()))) or "NVIDIA GPU"
        return Probe("gpu", count, f"{count} x {models}")

    def missing(self) -> str | None:
        extras = [extra for plugin, extra in EXTRA_OF_PLUGIN.items() if find_spec(plugin)]
        if len(extras) > 1:
            return (
                "jax's plugins for CUDA 12 and 13 are both here, and only one can be used: "
                "pip uninstall jax-cuda12-plugin jax-cuda12-pjrt, or the two for CUDA 13"
            )
        return jax_mismatch(*extras or ["cuda12"])

    def settings(self) -> tuple[EnvironmentSetting, ...]:
        return SETTINGS

    def topologies(self) -> tuple[Topology, ...]:
        return ()

    def compile_settings(self, count: int) -> tuple[EnvironmentSetting, ...]:
        return COMPILE_SETTINGS

    def compile_only_devices(self, chip: Chip, count: int) -> Sequence[jax.Device]:
        return compile_only_devices(chip, count, self.domain(chip, count))

    def memory(self, device: jax.Device) -> MemoryReading:
        return device_memory(device)

    def readings(self) -> dict[str, float]:
        return nvml.read(os.environ)

    def distributed_arguments(self, environment: Mapping[str, str]) -> dict[str, object] | None:
        explicit = explicit_cluster(environment)
        if explicit is not None or slurm_cluster(environment) is None:
            return explicit
        visible = visible_devices(environment)
        count = self._count() if visible is None else len(visible)
        return {"local_device_ids": local_device_ids(environment, count)}

    def _count(self) -> int:
        return len(list(self._root.glob("dev/nvidia[0-9]*")))

    def _models(self) -> list[str]:
        files = self._root.glob("proc/driver/nvidia/gpus/*/information")
        lines = [line for file in files for line in file.read_text().splitlines()]
        return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
