"""Finds the hardware of this host, and says what to install where jax could not use it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from axlearn_core.hardware.contract import Hardware, HardwareError, Probe
from axlearn_core.hardware.cpu import CPU
from axlearn_core.plugins import HardwareRecord, PluginError, Registry

# How hardware shows without its package: (platform, PCI vendor, device files, what to install).
# The vendor tells TPUs from other devices that are handed through by vfio.
_TRACES = (
    ("gpu", "0x10de", ("dev/nvidia[0-9]*",), "axlearn-hardware-gpu"),
    ("tpu", "0x1ae0", ("dev/accel[0-9]*", "dev/vfio/[0-9]*"), "axlearn-hardware-tpu"),
)
_PCI_VENDORS = "sys/bus/pci/devices/*/vendor"
_PLATFORM_OF = {"cuda": "gpu"}  # jax takes both names


class Detected(NamedTuple):
    """The backend in use, what it found, and what the user should know."""

    hardware: Hardware
    probe: Probe
    notes: tuple[str, ...]  # hardware that stays unused, each with what to do


def detect(registry: Registry, environment: Mapping[str, str], root: Path = Path("/")) -> Detected:
    """Returns the backend for this host: an accelerator if one is here, otherwise the CPU.

    Only platforms that JAX_PLATFORMS allows are considered, the ones it names first before others.

    Args:
        registry: Knows the installed backends.
        environment: The process's variables.
        root: Where hardware without a package is looked for.

    Raises:
        HardwareError: if JAX_PLATFORMS leaves nothing.
    """
    allowed = _allowed_platforms(environment)
    found: list[tuple[Hardware, Probe]] = []
    notes: list[str] = []
    installed = set()
    for component in registry.records("hardware"):
        record = component.record
        assert isinstance(record, HardwareRecord)
        installed.add(record.platform)
        if allowed and record.platform not in allowed:
            continue
        try:
            hardware: Hardware = component.load()()
        except PluginError as error:
            notes.append(str(error))
            continue
        probe = hardware.probe(environment)
        if probe is None:
            continue
        if (missing := hardware.missing()) is None:
            found.append((hardware, probe))
        else:
            notes.append(f"{probe.description}: not used, since {missing}")
    notes += _packages_missing(installed, allowed, root)
    if not found:
        raise HardwareError(
            f"JAX_PLATFORMS={environment.get('JAX_PLATFORMS', '')} allows no hardware that is "
            "here and has its package: unset it, or add cpu" + "".join(f"\n{n}" for n in notes)
        )
    return Detected(*min(found, key=lambda pair: _rank(pair[1].platform, allowed)), tuple(notes))


def backend_of(platform: str, registry: Registry) -> Hardware | None:
    """Returns the backend of a jax platform, or None if no package has one."""
    for component in registry.records("hardware"):
        record = component.record
        if isinstance(record, HardwareRecord) and record.platform == platform:
            hardware: Hardware = component.load()()
            return hardware
    return None


def _allowed_platforms(environment: Mapping[str, str]) -> list[str]:
    names = environment.get("JAX_PLATFORMS", "").split(",")
    return [_PLATFORM_OF.get(name, name) for name in names if name]


def _rank(platform: str, allowed: list[str]) -> int:
    if allowed:
        return allowed.index(platform)
    return 1 if platform == CPU.platform else 0


def _packages_missing(installed: set[str], allowed: list[str], root: Path) -> list[str]:
    notes = []
    vendors = {file.read_text().strip() for file in root.glob(_PCI_VENDORS)}
    for platform, vendor, patterns, requirement in _TRACES:
        if platform in installed or (allowed and platform not in allowed):
            continue
        files = sorted(file for pattern in patterns for file in root.glob(pattern))
        if files and vendor in vendors:
            notes.append(
                f"{platform} hardware is here ({files[0]}), but no package for it: not used. "
                f"To use it: pip install {requirement}"
            )
    return notes
