"""The machine that a command runs on: its environment before jax starts, its mesh rule after."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

from axlearn_core.config import ConfigBase, setting_as
from axlearn_core.hardware import (
    Hardware,
    apply_environment,
    detect,
    load_mesh_rule,
    machine_name,
    select_mesh_rule,
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
    """Finds the hardware and sets the variables it wants. Call it before anything imports jax."""
    hardware, _, notes = detect(registry, os.environ)
    return Machine(hardware, [*notes, *apply_environment(hardware, os.environ)])


def joined(machine: Machine) -> AbstractContextManager[None]:
    """Within the block this process is one of those that the environment describes, if it does.

    Enter it before asking jax for devices.
    """
    from axlearn_core import parallel

    return parallel.joined(machine.hardware.distributed_arguments(os.environ), os.environ)


@dataclass(frozen=True)
class MeshChoice:
    """What this machine is called, and the rule that holds for it, if there is one."""

    machine: str
    rule: Registered | None

    def __call__(self, cfg: ConfigBase) -> ConfigBase:
        """Returns the config as the rule changes it."""
        if self.rule is None:
            return cfg
        with setting_as(f"mesh rule {self.rule.qualified_name} for {self.machine}"):
            return load_mesh_rule(self.rule)(cfg)

    def __str__(self) -> str:
        return f"{self.machine}: {self.rule.qualified_name if self.rule else 'no mesh rule'}"


def choose_mesh_rule(machine: Machine, registry: Registry) -> MeshChoice:
    """Asks jax for the devices and selects the rule for them."""
    import jax

    devices = jax.devices()
    chip = machine.hardware.chip(devices[0].device_kind)
    kind = chip.name if chip else devices[0].device_kind
    name = machine_name(devices[0].platform, kind, len(devices))
    return MeshChoice(name, select_mesh_rule(registry, name))
