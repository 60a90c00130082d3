"""Cloud TPUs as a hardware backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
)
from axlearn_hardware_tpu import metrics
from axlearn_hardware_tpu.chips import CHIPS, PCI_DEVICES, PCI_VENDOR
from axlearn_hardware_tpu.settings import SETTINGS
from axlearn_hardware_tpu.topologies import COMPILE_SETTINGS, TOPOLOGIES, compile_only_devices

if TYPE_CHECKING:
    import jax


class TPU(Hardware):
    """TPU chips that this host has on its PCI bus and may open.

    Args:
        root: Where the bus and device files are looked for.
    """

    platform = "tpu"
    chips = CHIPS

    def __init__(self, root: Path = Path("/")):
        self._root = root

    def probe(self, environment: Mapping[str, str]) -> Probe | None:
        names = list(self._chips_on_bus())
        # Older kernels' drivers make accel files; newer machines hand chips through by vfio.
        files = list(self._root.glob("dev/accel[0-9]*")) or list(self._root.glob("dev/vfio/[0-9]*"))
        count = min(len(names), len(files))
        if visible := environment.get("TPU_VISIBLE_CHIPS"):
            count = min(count, len(visible.split(",")))
        if count == 0:
            return None
        return Probe("tpu", count, f"{count} x TPU {' and '.join(sorted(set(names)))}")

    def missing(self) -> str | None:
        return jax_mismatch("tpu")

    def settings(self) -> tuple[EnvironmentSetting, ...]:
        return SETTINGS

    def topologies(self) -> tuple[Topology, ...]:
        return TOPOLOGIES

    def compile_settings(self, count: int) -> tuple[EnvironmentSetting, ...]:
        return COMPILE_SETTINGS

    def compile_only_devices(self, chip: Chip, count: int) -> Sequence[jax.Device]:
        return compile_only_devices(chip, count, self.domain(chip, count))

    def memory(self, device: jax.Device) -> MemoryReading:
        return device_memory(device)

    def readings(self) -> dict[str, float]:
        return metrics.read()

    def distributed_arguments(self, environment: Mapping[str, str]) -> dict[str, object] | None:
        """Leaves it to jax on slices of several hosts, which it knows from these variables."""
        explicit = explicit_cluster(environment)
        if explicit is not None:
            return explicit
        hosts = environment.get("TPU_WORKER_HOSTNAMES", "").count(",") + 1
        slices = environment.get("MEGASCALE_NUM_SLICES", "1")
        return {} if hosts > 1 or slices != "1" else None

    def _chips_on_bus(self) -> Iterator[str]:
        for folder in self._root.glob("sys/bus/pci/devices/*"):
            if (folder / "vendor").read_text().strip() == PCI_VENDOR:
                device = (folder / "device").read_text().strip()
                if device in PCI_DEVICES:
                    yield PCI_DEVICES[device]
