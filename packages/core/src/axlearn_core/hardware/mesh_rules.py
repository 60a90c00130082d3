"""Mesh rules: what to change in a trainer's config on machines of a kind.

A machine is described as "platform-chip-count", such as "gpu-h100-64"; the count is of jax devices.
The first rule whose pattern matches all of that wins: packages in the order of their names, rules
as their package lists them. Rules that are optional are recipes, which a user asks for by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from axlearn_core.config import REQUIRED, ConfigBase, ConfigModifier, near_names
from axlearn_core.hardware.contract import HardwareError
from axlearn_core.plugins import MeshRuleRecord, Registered, Registry


class MeshRule(ConfigModifier):
    """Sets a trainer's mesh and what goes with it; a field that is None changes nothing."""

    class Config(ConfigModifier.Config):
        mesh_shape: dict[str, int] | None = None  # sizes by axis; one may be -1 (what is left)
        slow_mesh_shape: dict[str, int] | None = None  # the same, between slices or nodes
        compute_dtype: str | None = None  # such as "bfloat16"

    def __call__(self, cfg: ConfigBase) -> ConfigBase:
        return cfg.set(**{name: value for name, value in self.config.items() if value is not None})


class Recipe(ConfigModifier):
    """Several modifiers, one after the other, such as a mesh, a precision and what to recompute."""

    class Config(ConfigModifier.Config):
        steps: list[ConfigModifier.Config] = REQUIRED
        # Set by core, as the machine is.
        device_count: int = REQUIRED
        memory_bytes: int | None = REQUIRED  # of a device, None where nobody knows

    def __call__(self, cfg: ConfigBase) -> ConfigBase:
        machine = {name: getattr(self.config, name) for name in ("device_count", "memory_bytes")}
        for step in self.config.steps:
            cfg = _told(step, machine).instantiate()(cfg)
        return cfg


def machine_name(platform: str, chip: str, count: int) -> str:
    """Returns what the patterns of mesh rules are matched against."""
    return f"{platform}-{chip}-{count}"


def select_mesh_rule(registry: Registry, machine: str) -> Registered | None:
    """Returns the first rule for a machine, None if there is none."""
    for component in registry.records("mesh-rule"):
        record = component.record
        assert isinstance(record, MeshRuleRecord)
        if not record.optional and re.fullmatch(record.pattern, machine):
            return component
    return None


def select_recipes(
    registry: Registry, machine: str, names: Sequence[str]
) -> tuple[Registered, ...]:
    """Returns the optional rules of these names for a machine.

    Raises:
        HardwareError: if there is none of a name, with those that there are.
    """
    recipes: dict[str, Registered] = {}
    for component in registry.records("mesh-rule"):
        record = component.record
        assert isinstance(record, MeshRuleRecord)
        if record.optional and re.fullmatch(record.pattern, machine):
            recipes.setdefault(component.name, component)
    for name in names:
        if name not in recipes:
            raise HardwareError(
                f"recipe={name}: {machine} has no recipe of that name.{near_names(name, recipes)} "
                f"Its recipes: {', '.join(recipes) or 'none'}."
            )
    return tuple(recipes[name] for name in names)


def load_mesh_rule(
    rule: Registered, *, device_count: int = 1, memory_bytes: int | None = None
) -> ConfigModifier:
    """Imports and builds a rule; its target is a ConfigModifier, or the config of one.

    Args:
        rule: what `select_mesh_rule` returned.
        device_count: of the machine; a rule whose config has a field of this name is told.
        memory_bytes: of each of its devices, None if unknown; the same.

    Raises:
        HardwareError: if the target is neither.
    """
    target = rule.load()
    if isinstance(target, type) and issubclass(target, ConfigModifier):
        target = target.default_config()
    if isinstance(target, ConfigBase):
        machine = {"device_count": device_count, "memory_bytes": memory_bytes}
        target = _told(target, machine).instantiate()
    if not isinstance(target, ConfigModifier):
        raise HardwareError(
            f"mesh-rule {rule.qualified_name} must be a ConfigModifier or the config of one; "
            f"{rule.record.target} is {target!r}"
        )
    return target


def _told(modifier: ConfigBase, machine: dict[str, Any]) -> Any:
    """Returns a copy that knows what it has fields for."""
    fields = dict(modifier.items())
    return modifier.clone(**{name: value for name, value in machine.items() if name in fields})
