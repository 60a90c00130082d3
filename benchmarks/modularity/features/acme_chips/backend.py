"""The backend of a platform that nobody has, which is found where ACME_CHIPS says how many."""

from __future__ import annotations

from collections.abc import Mapping
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
)

if TYPE_CHECKING:
    import jax

A1 = Chip(
    name="a1",
    device_kinds=(r"Acme A1.*",),
    peak_flops={"bfloat16": 1e15, "float32": 5e14},
    memory_bytes=64 << 30,
    memory_bandwidth=2e12,
    interconnect="AcmeLink",
    interconnect_bandwidth=4e11,
    source="made up",
)


class Acme(Hardware):
    """Up to 8 chips of a host."""

    platform = "acme"
    chips = (A1,)

    def probe(self, environment: Mapping[str, str]) -> Probe | None:
        count = int(environment.get("ACME_CHIPS", "0"))
        return Probe("acme", count, f"{count} x Acme A1") if count else None

    def missing(self) -> str | None:
        return None

    def settings(self) -> tuple[EnvironmentSetting, ...]:
        return (EnvironmentSetting("ACME_ASYNC", "1", "overlaps transfers and products"),)

    def topologies(self) -> tuple[Topology, ...]:
        return (Topology("a1:8", "a1", 8),)

    def memory(self, device: jax.Device) -> MemoryReading:
        return device_memory(device)

    def distributed_arguments(self, environment: Mapping[str, str]) -> dict[str, object] | None:
        return explicit_cluster(environment)
