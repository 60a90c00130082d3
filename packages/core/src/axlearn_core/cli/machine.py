"""The machine that a command runs on: its environment before jax starts, its mesh rule after."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

from axlearn_core.config import ConfigBase, setting_as
from axlearn_core.hardware import (
    Chip,
    Hardware,
    HardwareError,
    apply_environment,
    detect,
    jax_mismatch,
    load_mesh_rule,
    machine_name,
    select_mesh_rule,
    select_recipes,
)
from axlearn_core.plugins import Registered, Registry


class Machine(NamedTuple):
    """This host, before jax was imported.

    Attributes:
        hardware: the backend in use.
        notes: what was set, and what stays unused, each with what to do.
    """

    hardware: Hardware
    notes: list[str]


def start(registry: Registry) -> Machine:
    """Finds the hardware and sets the variables it wants. Call it before anything imports jax.

    Raises:
        HardwareError: if jax and jaxlib do not fit together, or there is nothing to run on.
    """
    if problem := jax_mismatch():
        raise HardwareError(problem)
    hardware, _, notes = detect(registry, os.environ)
    if hardware.platform == "cpu":
        # Else libraries of hardware that is not here, where they are installed, look for it.
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    return Machine(hardware, [*notes, *apply_environment(hardware, os.environ)])


def joined(machine: Machine) -> AbstractContextManager[None]:
    """Within the block this process is one of those that the environment describes, if it does.

    Enter it before asking jax for devices.
    """
    from axlearn_core import parallel

    return parallel.joined(machine.hardware.distributed_arguments(os.environ), os.environ)


@dataclass(frozen=True)
class MeshChoice:
    """What this machine is called and has, and the rule that holds for it, if there is one."""

    machine: str
    rule: Registered | None
    device_count: int
    memory_bytes: int | None  # of each device, None if unknown
    registry: Registry

    def __call__(self, cfg: ConfigBase, recipes: Sequence[str] = ()) -> ConfigBase:
        """Returns the config as the rule changes it, and then the recipes of these names."""
        optional = select_recipes(self.registry, self.machine, recipes)
        for rule in (*([self.rule] if self.rule else []), *optional):
            what = "recipe" if rule in optional else "mesh rule"
            with setting_as(f"{what} {rule.qualified_name} for {self.machine}"):
                modifier = load_mesh_rule(
                    rule, device_count=self.device_count, memory_bytes=self.memory_bytes
                )
                cfg = modifier(cfg)
        return cfg

    def __str__(self) -> str:
        return f"{self.machine}: {self.rule.qualified_name if self.rule else 'no mesh rule'}"


def choose_mesh_rule(machine: Machine, registry: Registry) -> MeshChoice:
    """Asks jax for the devices and selects the rule for them."""
    import jax

    devices = jax.devices()
    kind, count = devices[0].device_kind, len(devices)
    chip = machine.hardware.chip(kind)
    if chip is not None:
        return mesh_choice(machine.hardware.platform, chip, count, registry)
    name = machine_name(devices[0].platform, kind, count)
    return MeshChoice(name, select_mesh_rule(registry, name), count, None, registry)


def mesh_choice(platform: str, chip: Chip, count: int, registry: Registry) -> MeshChoice:
    """Selects the rule for chips, which need not be here."""
    name = machine_name(platform, chip.name, count)
    rule = select_mesh_rule(registry, name)
    return MeshChoice(name, rule, count, chip.memory_bytes, registry)
