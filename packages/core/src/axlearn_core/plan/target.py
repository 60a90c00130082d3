"""The machine that a plan is for: "tpu-v5p-64", by name, before anybody has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from axlearn_core.config import near_names
from axlearn_core.hardware import Chip, EnvironmentSetting, Hardware, HardwareError, machine_name
from axlearn_core.plugins import HardwareRecord, Registered, Registry

if TYPE_CHECKING:
    import jax

# The packages of this project, for platforms that have none here.
_PACKAGES = {"tpu": "axlearn-hardware-tpu", "gpu": "axlearn-hardware-gpu"}


@dataclass(frozen=True)
class Target:
    """Devices of one kind.

    Attributes:
        devices: to compile for, in the order of network domains; None if that cannot be done here.
        reason: why it cannot.
    """

    hardware: Hardware
    chip: Chip
    count: int
    devices: tuple[jax.Device, ...] | None = None
    reason: str | None = None

    @property
    def name(self) -> str:
        """As mesh rules match it: "gpu-h100-64", and "cpu-host-8"."""
        return machine_name(self.hardware.platform, self.chip.name, self.count)

    @property
    def domain(self) -> int:
        """How many devices the fast network joins: a slice, a node."""
        return self.hardware.domain(self.chip, self.count)

    @property
    def compile_settings(self) -> tuple[EnvironmentSetting, ...]:
        """What to set, before jax starts, to compile for it."""
        platform = EnvironmentSetting("JAX_PLATFORMS", "cpu", "what is compiled for is not here")
        return (platform, *self.hardware.compile_settings(self.count))

    def mesh_sizes(
        self, shape: Mapping[str, int], slow: Mapping[str, int]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Returns the sizes of all mesh axes, and of their parts between network domains.

        Args:
            shape: a trainer's `mesh_shape`.
            slow: its `slow_mesh_shape`.

        Raises:
            ConfigError: if they do not fit the devices.
        """
        from axlearn_core.parallel import infer_mesh_shape

        if not slow:
            return infer_mesh_shape(shape, self.count), {}
        outer = infer_mesh_shape(slow, self.count // self.domain, field="slow_mesh_shape")
        inner = infer_mesh_shape(shape, self.domain)
        return {axis: outer[axis] * inner[axis] for axis in inner}, outer

    def with_devices(self) -> Target:
        """Returns this target with devices to compile for, or with the reason. Starts jax."""
        try:
            devices = self.hardware.compile_only_devices(self.chip, self.count)
        except HardwareError as error:
            return replace(self, reason=str(error))
        return replace(self, devices=tuple(devices))


def parse_target(text: str, registry: Registry) -> Target:
    """Reads "platform-chip-count", such as "gpu-h100-32"; "cpu-8" needs no chip. Starts no jax.

    Raises:
        HardwareError: for a platform, a chip or a count that there is not, with near names.
    """
    platform, _, rest = text.partition("-")
    chip_name, _, count = rest.rpartition("-")
    hardware = _hardware(platform, text, registry)
    if not count.isdigit() or int(count) < 1:
        named = [chip.name for chip in hardware.chips if chip.name == rest]
        names = ", ".join(f"{platform}-{n}-8" for n in named or [c.name for c in hardware.chips])
        raise HardwareError(
            f"--hardware {text} does not end in a number of devices. Write "
            f"{names if named else f'one of {names}'}, or another number"
        )
    if not chip_name and len(hardware.chips) == 1:
        return Target(hardware, hardware.chips[0], int(count))
    chips = {chip.name: chip for chip in hardware.chips}
    if chip_name not in chips:
        raise HardwareError(
            f"there is no chip {chip_name!r} for {platform} (--hardware {text})."
            f"{near_names(chip_name, chips)} Chips: {', '.join(chips)}."
        )
    return Target(hardware, chips[chip_name], int(count))


def _hardware(platform: str, text: str, registry: Registry) -> Hardware:
    platforms: dict[str, Registered] = {}
    for component in registry.records("hardware"):
        assert isinstance(component.record, HardwareRecord)
        platforms.setdefault(component.record.platform, component)
    if platform in platforms:
        hardware: Hardware = platforms[platform].load()()
        return hardware
    whole = {
        f"{name}-{chip.name}": chip.name
        for name, component in platforms.items()
        for chip in component.load()().chips
    }
    if forms := [form for form, chip in whole.items() if text.startswith(chip)]:
        best = max(forms, key=len)
        raise HardwareError(f"--hardware {text} lacks its platform. Write {best}-8, say")
    if platform in _PACKAGES:
        raise HardwareError(
            f"--hardware {text} needs a package that is not here: pip install {_PACKAGES[platform]}"
        )
    raise HardwareError(
        f"--hardware {text} should be platform-chip-count, such as tpu-v5p-64, gpu-h100-32 or "
        f"cpu-8.{near_names(platform, {**platforms, **_PACKAGES})} Platforms here: "
        f"{', '.join(sorted(platforms))}."
    )
