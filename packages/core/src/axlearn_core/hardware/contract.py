"""What a hardware backend promises, in two phases.

Phase 1 runs before jax starts, because `XLA_FLAGS` and their like are read once: is the hardware
here (`probe`), can jax reach it (`missing`), which variables does it want (`settings`). Phase 2 may
use jax: what the chips can do, what they have in memory, how processes find each other.

Importing a backend's module must not import jax.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from axlearn_core.errors import UserError

if TYPE_CHECKING:
    import jax


class HardwareError(UserError):
    """The hardware, or what was asked of it, does not fit."""


@dataclass(frozen=True)
class Probe:
    """Hardware that was found on this host, without asking jax."""

    platform: str  # as jax names it: "cpu", "gpu", "tpu"
    count: int  # chips that this process may use
    description: str  # for people, such as "8 x NVIDIA H100 80GB HBM3"


@dataclass(frozen=True)
class EnvironmentSetting:
    """One environment variable, or one flag of a variable that holds flags, and why it is set."""

    name: str  # "XLA_FLAGS", "NCCL_DEBUG", ...
    value: str  # for a variable of flags a single one: "--xla_flag=value"
    comment: str  # what it does and who recommends it, shown to the user
    aliases: tuple[str, ...] = ()  # other variables that mean the same: one of them set is enough


@dataclass(frozen=True)
class Chip:
    """What one jax device of a kind can do at best. Rates are dense and per second."""

    name: str  # short, as mesh rules spell it: "h100", "v5e"
    device_kinds: tuple[str, ...]  # regular expressions for the whole of `jax.Device.device_kind`
    peak_flops: Mapping[str, float]  # of matrix products, by the dtype of their operands
    memory_bytes: int | None
    memory_bandwidth: float | None  # bytes per second
    interconnect: str  # to other chips, such as "NVLink 4"; "" is none of its own
    interconnect_bandwidth: float | None  # bytes per second and chip, both directions together
    source: str  # where the numbers come from
    program_memory: int | None = None  # bytes of it that a program gets; None: all
    shared: bool = False  # all devices of a process are this one chip, as virtual CPU devices are
    domain: int | None = None  # devices that the interconnect joins at most; None: any number
    domain_bandwidth: float | None = None  # to other domains: bytes per second and device, one way
    torus: int = 0  # dimensions of the interconnect; 0 is a switch
    torus_wraps: int = 1  # a dimension of the torus is a ring if its size is a multiple of this

    def matches(self, device_kind: str) -> bool:
        return any(re.fullmatch(pattern, device_kind) for pattern in self.device_kinds)


@dataclass(frozen=True)
class Topology:
    """An arrangement of chips that programs can be compiled for without having it."""

    name: str  # as `jax.experimental.topologies` takes it: "v5e:4x4"; one domain
    chip: str  # the chip's name
    devices: int


@dataclass(frozen=True)
class MemoryReading:
    """Bytes on one device; None where nobody can tell."""

    in_use: int | None
    peak: int | None
    limit: int | None


class Hardware(ABC):
    """One platform. Built without arguments; the target of a `HardwareRecord`."""

    platform: str
    chips: tuple[Chip, ...]  # the first that matches a device's kind describes it

    @abstractmethod
    def probe(self, environment: Mapping[str, str]) -> Probe | None:
        """Returns what of this platform is on this host, None for nothing. Phase 1.

        Args:
            environment: The process's variables, which may hide devices.
        """

    @abstractmethod
    def missing(self) -> str | None:
        """Returns what to install so that jax can use this platform, None for nothing. Phase 1."""

    @abstractmethod
    def settings(self) -> tuple[EnvironmentSetting, ...]:
        """Returns the variables and flags to run with, unless the user has set them. Phase 1."""

    def compile_settings(self, count: int) -> tuple[EnvironmentSetting, ...]:
        """Returns what else to set to compile for `count` devices that are not here. Phase 1."""
        return ()

    def prepare_process(self) -> None:  # noqa: B027 - most backends have nothing to do
        """Tunes this process, after it has compiled and before it computes; maybe again later."""

    @abstractmethod
    def topologies(self) -> tuple[Topology, ...]:
        """Returns arrangements that one can compile for without the hardware. Phase 2."""

    def compile_only_devices(self, chip: Chip, count: int) -> Sequence[jax.Device]:
        """Returns devices to compile for, which need not exist, in the order of domains. Phase 2.

        Raises:
            HardwareError: if that cannot be done here, with what is missing, or for that many,
                with the nearest counts that there are.
        """
        raise HardwareError(f"its package does not say how to compile for {self.platform} devices")

    @abstractmethod
    def memory(self, device: jax.Device) -> MemoryReading:
        """Returns how full a device is, without waiting for it. Phase 2."""

    def readings(self) -> Mapping[str, float]:
        """Returns how busy this process's devices are now, without waiting for them. Phase 2.

        Among them `utilization`, the fraction of a recent moment in which they computed; other
        names end in their unit. Empty where nobody can tell.
        """
        return {}

    @abstractmethod
    def distributed_arguments(self, environment: Mapping[str, str]) -> dict[str, object] | None:
        """Returns arguments for `jax.distributed.initialize`. Phase 2.

        None says that there is only this process; an empty dict leaves it to jax to find out.
        """

    @final
    def chip(self, device_kind: str) -> Chip | None:
        """Returns what is known of the devices of a kind, None for an unknown kind. Phase 2."""
        return next((chip for chip in self.chips if chip.matches(device_kind)), None)

    @final
    def domain(self, chip: Chip, count: int) -> int:
        """Returns how many of `count` devices the fast network joins: the most that divide it."""
        most = min(count, chip.domain or count)
        return next(size for size in range(most, 0, -1) if count % size == 0)

    @final
    def peak_flops(self, devices: Sequence[jax.Device], dtype: str) -> float | None:
        """Returns what devices can do together per second, None if that is unknown. Phase 2.

        Args:
            devices: Devices of one kind, of this process or of all.
            dtype: Of the operands of matrix products, such as "bfloat16".
        """
        chip = self.chip(devices[0].device_kind)
        if chip is None or dtype not in chip.peak_flops:
            return None
        count = len({device.process_index for device in devices}) if chip.shared else len(devices)
        return count * chip.peak_flops[dtype]


def device_memory(device: jax.Device) -> MemoryReading:
    """Reads the allocator of an accelerator."""
    stats = device.memory_stats() or {}
    return MemoryReading(
        stats.get("bytes_in_use"), stats.get("peak_bytes_in_use"), stats.get("bytes_limit")
    )


COORDINATOR: Final = "AXLEARN_COORDINATOR"
PROCESS_COUNT: Final = "AXLEARN_PROCESS_COUNT"
PROCESS_INDEX: Final = "AXLEARN_PROCESS_INDEX"
# The part of its host that a process has for itself, where several processes share a host.
PLACE: Final = "AXLEARN_PLACE"


def explicit_cluster(environment: Mapping[str, str]) -> dict[str, object] | None:
    """Returns the cluster that the user described by AXLEARN_* variables, on any platform.

    Raises:
        HardwareError: if only some of them are set, or one is not a number.
    """
    names = (COORDINATOR, PROCESS_COUNT, PROCESS_INDEX)
    given = [name for name in names if environment.get(name)]
    if not given:
        return None
    if len(given) < len(names):
        absent = ", ".join(name for name in names if name not in given)
        raise HardwareError(
            f"{', '.join(given)} set without {absent}: set all three, such as "
            f"{COORDINATOR}=host0:1234 {PROCESS_COUNT}=2 {PROCESS_INDEX}=0, or none"
        )
    try:
        count, index = int(environment[PROCESS_COUNT]), int(environment[PROCESS_INDEX])
    except ValueError:
        raise HardwareError(
            f"{PROCESS_COUNT} (={environment[PROCESS_COUNT]!r}) and {PROCESS_INDEX} "
            f"(={environment[PROCESS_INDEX]!r}) must be whole numbers"
        ) from None
    if not 0 <= index < count:
        raise HardwareError(
            f"{PROCESS_INDEX} (={index}) must be at least 0 and less than "
            f"{PROCESS_COUNT} (={count})"
        )
    return {
        "coordinator_address": environment[COORDINATOR],
        "num_processes": count,
        "process_id": index,
    }


def slurm_cluster(environment: Mapping[str, str]) -> dict[str, object] | None:
    """Returns an empty dict within a Slurm step of several tasks, which jax recognises itself."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    return {} if tasks.isdigit() and int(tasks) > 1 else None
