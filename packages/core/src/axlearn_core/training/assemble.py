"""From the words on a command line to a trainer's config."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from axlearn_core.config import ConfigBase, ConfigError, apply_overrides, diff, from_json, where
from axlearn_core.plugins import Registry

RUN_CONFIG = "config.json"
RECIPE = "recipe="
"""A word that begins so names a recipe of the machine's hardware package: recipe=float8."""


class MeshRule(Protocol):
    """Fits a config to the machine, and applies the recipes of these names."""

    def __call__(self, cfg: ConfigBase, recipes: Sequence[str], /) -> ConfigBase: ...


class Assembled(NamedTuple):
    """An experiment, ready to build.

    Attributes:
        name: the experiment's.
        base: its config as the experiment gives it.
        config: with the overrides and what plugins changed.
    """

    name: str
    base: ConfigBase
    config: ConfigBase

    def changes(self) -> list[str]:
        """Returns `path: base -> value (where it was set)` lines."""
        return [
            f"{d.path}: {_shown(d.old)} -> {_shown(d.new)} ({_origin(self.config, d.path)})"
            for d in diff(self.base, self.config)
        ]


def assemble(
    name: str,
    overrides: Sequence[str],
    registry: Registry,
    *,
    mesh_rule: MeshRule | None = None,
) -> Assembled:
    """Makes the config of an experiment.

    Args:
        name: registered ("text.quickstart"), or `module:function` to import from here or the
            Python path.
        overrides: `path=value` words, and `recipe=name`.
        registry: knows experiments and components, and the plugins that change trainers.
        mesh_rule: fits the config to the machine; overrides win over what it sets.

    Raises:
        UserError: if the experiment, a path or a value is not what it should be.
    """
    function = _imported(name) if ":" in name else registry.experiment(name)
    base = function()
    if not isinstance(base, ConfigBase):
        raise ConfigError(f"experiment {name} must return a trainer's config, got {base!r}")
    recipes = [word.removeprefix(RECIPE) for word in overrides if word.startswith(RECIPE)]
    words = [word for word in overrides if not word.startswith(RECIPE)]
    if recipes and mesh_rule is None:
        raise ConfigError(f"{RECIPE}{recipes[0]} is of a machine, and none is known here")
    config = mesh_rule(base.clone(), recipes) if mesh_rule else base.clone()
    config = apply_overrides(config, words, resolve=registry.lookup)
    return Assembled(name, base, registry.hook.axlearn_configure_trainer(config))


def _imported(name: str) -> Callable[[], Any]:
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name.removesuffix(".py").replace("/", "."))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"cannot import {module_name!r} of experiment {name!r}: {error}. Write module:function "
            "for a module in the current folder or on the Python path"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"{module_name} has no function {function_name!r}")
    return cast(Callable[[], Any], function)


def config_of_checkpoint(folder: Path, kind: type[ConfigBase], registry: Registry) -> ConfigBase:
    """Returns the config that a checkpoint was saved with.

    Raises:
        ConfigError: if it could not be written as JSON, with the reason.
    """
    path = folder / RUN_CONFIG
    if not path.exists():
        missing = folder / f"{RUN_CONFIG}.missing"
        reason = missing.read_text(encoding="utf-8") if missing.exists() else "it is not there"
        raise ConfigError(f"{folder} has no {RUN_CONFIG}: {reason}")
    return from_json(path.read_text(encoding="utf-8"), kind, registry)


def _shown(value: str | None) -> str:
    return "(absent)" if value is None else value


def _origin(config: ConfigBase, path: str) -> str:
    try:
        return where(config, path)
    except ConfigError:  # the path exists only in the base
        return "removed"
