"""NVIDIA GPUs as a hardware backend."""

from __future__ import annotations

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
    slurm_cluster,
)
from axlearn_hardware_gpu.chips import CHIPS
from axlearn_hardware_gpu.settings import SETTINGS
from axlearn_hardware_gpu.targets import COMPILE_SETTINGS, compile_only_devices

if TYPE_CHECKING:
    import jax

_JAX_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


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
        count = len(list(self._root.glob("dev/nvidia[0-9]*")))
        if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
            count = min(count, _visible_devices(visible))
        if count == 0:
            return None
        models = " and ".join(sorted(set(self._models()))) or "NVIDIA GPU"
        return Probe("gpu", count, f"{count} x {models}")

    def missing(self) -> str | None:
        if any(find_spec(plugin) for plugin in _JAX_PLUGINS):
            return None
        return "jax's CUDA plugin is missing: pip install 'axlearn-hardware-gpu[cuda12]'"

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

    def distributed_arguments(self, environment: Mapping[str, str]) -> dict[str, object] | None:
        explicit = explicit_cluster(environment)
        return slurm_cluster(environment) if explicit is None else explicit

    def _models(self) -> list[str]:
        files = self._root.glob("proc/driver/nvidia/gpus/*/information")
        lines = [line for file in files for line in file.read_text().splitlines()]
        return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def _visible_devices(value: str) -> int:
    """Counts like CUDA does: indices or UUIDs up to the first that is not one, such as -1."""
    count = 0
    for word in (word.strip() for word in value.split(",")):
        if not word.isdigit() and not word.startswith(("GPU-", "MIG-")):
            break
        count += 1
    return count
