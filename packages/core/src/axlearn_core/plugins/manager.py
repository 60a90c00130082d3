"""Finds the installed plugins and reads their records; one broken plugin never stops another.

pluggy can load entry points by itself, but it imports all of them, stops at the first that fails,
and drops the second of two that share a name. Hence the loop here.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any, Final, Literal

import pluggy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from axlearn_core.config import near_names
from axlearn_core.plugins import hookspecs
from axlearn_core.plugins.errors import PluginError
from axlearn_core.plugins.records import RECORD_OF_HOOK, Record
from axlearn_core.plugins.registered import Registered

ENTRY_POINT_GROUP: Final = "axlearn_core.plugins"
CORE: Final = "axlearn-core"
DISABLE_VARIABLE: Final = "AXLEARN_DISABLE_PLUGINS"
STRICT_VARIABLE: Final = "AXLEARN_STRICT_PLUGINS"


@dataclass(frozen=True)
class PluginProblem:
    """Why a plugin is not in use, and what to do about it."""

    plugin: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"plugin {self.plugin}: {self.what}\n  fix: {self.fix}"


@dataclass(frozen=True)
class Plugin:
    """An entry point and what became of it."""

    distribution: str
    version: str
    entry_point: str  # one distribution may have several
    status: Literal["ok", "disabled", "failed", "missing"]
    components: tuple[Registered, ...] = ()
    problem: PluginProblem | None = None


@dataclass(frozen=True)
class Discovery:
    """All plugins in the order of their names, and the manager that holds those in use."""

    plugins: tuple[Plugin, ...]
    manager: pluggy.PluginManager
    strict: bool = False


class _Refused(Exception):
    """A plugin cannot be used."""

    def __init__(self, what: str, fix: str):
        super().__init__(what)
        self.what, self.fix = what, fix


def new_manager() -> pluggy.PluginManager:
    """Returns a manager that knows the hooks and has no plugins."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def hook_specifications() -> dict[str, Callable[..., object]]:
    """Returns every hook a plugin may implement, in the order of the specification page."""
    mark = f"{hookspecs.PROJECT}_spec"
    return {name: value for name, value in vars(hookspecs).items() if hasattr(value, mark)}


def discover(environ: Mapping[str, str] = os.environ) -> Discovery:
    """Loads the installed plugins, as far as they can be used.

    Args:
        environ: AXLEARN_DISABLE_PLUGINS holds distributions to leave out, separated by commas;
            AXLEARN_STRICT_PLUGINS=1 turns problems into an error.

    Raises:
        PluginError: in strict mode, naming every problem.
    """
    manager = new_manager()
    names = environ.get(DISABLE_VARIABLE, "").split(",")
    disabled = {canonicalize_name(name.strip()): name.strip() for name in names if name.strip()}
    found = sorted(
        ((_found(entry), entry) for entry in entry_points(group=ENTRY_POINT_GROUP)),
        key=lambda pair: (pair[0].distribution, pair[0].entry_point),
    )
    plugins = [
        replace(plugin, status="disabled")
        if plugin.distribution in disabled
        else _load(plugin, entry, manager)
        for plugin, entry in found
    ]
    installed = {plugin.distribution for plugin in plugins}
    plugins += [_missing(disabled[name], installed) for name in sorted(disabled.keys() - installed)]
    strict = environ.get(STRICT_VARIABLE, "") not in ("", "0")
    problems = [plugin.problem for plugin in plugins if plugin.problem]
    if strict and problems:
        listing = "\n".join(map(str, problems))
        raise PluginError(f"{listing}\n(an error because {STRICT_VARIABLE} is set)")
    return Discovery(tuple(plugins), manager, strict)


def register(manager: pluggy.PluginManager, plugin: Plugin, implementation: object) -> Plugin:
    """Checks a plugin's hooks, adds them to the manager and collects the records they return."""
    try:
        _check_hooks(manager, implementation)
        _add(manager, plugin, implementation)
        return replace(plugin, components=_collect(manager, plugin, implementation))
    except _Refused as refused:
        if manager.is_registered(implementation):
            manager.unregister(implementation)
        return _failed(plugin, refused.what, refused.fix)


def _found(entry: EntryPoint) -> Plugin:
    # An interrupted pip leaves folders without metadata; such a plugin is still to be named.
    metadata: Any = entry.dist.metadata if entry.dist else {}
    name, release = metadata.get("Name"), metadata.get("Version")
    return Plugin(canonicalize_name(name or entry.name), release or "unknown", entry.name, "ok")


def _load(plugin: Plugin, entry: EntryPoint, manager: pluggy.PluginManager) -> Plugin:
    try:
        _check_core_range(entry.dist.requires or [] if entry.dist else [])
        implementation = entry.load()
    except _Refused as refused:
        return _failed(plugin, refused.what, refused.fix)
    except (Exception, SystemExit) as error:
        return _failed(plugin, f"importing {entry.value} failed: {_said(error)}", _repair(plugin))
    return register(manager, plugin, implementation)


def _check_core_range(requires: list[str]) -> None:
    for requirement in map(Requirement, requires):
        if canonicalize_name(requirement.name) != CORE:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        core = version(CORE)
        if not requirement.specifier.contains(core, prereleases=True):
            raise _Refused(
                f"it needs {CORE} {requirement.specifier}, and {core} is installed",
                f"install versions that fit: pip install --upgrade {CORE} and this plugin together",
            )


def _check_hooks(manager: pluggy.PluginManager, implementation: object) -> None:
    """Refuses what pluggy would overlook: a hook nobody calls is a mistake, not an option."""
    known = hook_specifications()
    for attribute, function in inspect.getmembers_static(implementation, inspect.isroutine):
        marked = manager.parse_hookimpl_opts(implementation, attribute)
        if marked is None:
            if attribute.startswith("axlearn_") and _is_own(function, implementation):
                raise _Refused(
                    f"{attribute} looks like a hook but is not marked as one",
                    "put @hookimpl above it, or give it a name without the prefix axlearn_",
                )
            continue
        hook = marked["specname"] or attribute
        if hook not in known:
            raise _Refused(
                f"there is no hook {hook}.{near_names(hook, known)}",
                "use one of: " + ", ".join(known),
            )
        if marked["wrapper"] or marked["hookwrapper"]:
            raise _Refused(
                f"{hook} is a hook wrapper, which would reach into other plugins",
                "write it as a plain hook",
            )


def _is_own(function: Any, implementation: object) -> bool:
    return not inspect.ismodule(implementation) or function.__module__ == implementation.__name__


def _add(manager: pluggy.PluginManager, plugin: Plugin, implementation: object) -> None:
    try:
        manager.register(implementation, name=f"{plugin.distribution}:{plugin.entry_point}")
    except (pluggy.PluginValidationError, ValueError) as error:
        fix = "take only the arguments that `axl hooks` shows, once per module"
        raise _Refused(_said(error), fix) from error


def _collect(
    manager: pluggy.PluginManager, plugin: Plugin, implementation: object
) -> tuple[Registered, ...]:
    records: dict[tuple[str, str], Record] = {}
    for caller in manager.get_hookcallers(implementation) or []:
        if caller.name not in RECORD_OF_HOOK:
            continue
        for own in caller.get_hookimpls():
            if own.plugin is not implementation:
                continue
            for record in _records(caller.name, own.function, plugin):
                if records.setdefault((record.kind, record.name), record) is not record:
                    raise _Refused(
                        f"{caller.name} returned two records named {record.name!r}",
                        "give each component of a kind its own name",
                    )
    return tuple(Registered(r, plugin.distribution, plugin.version) for r in records.values())


def _records(hook: str, function: Callable[[], object], plugin: Plugin) -> list[Record]:
    expected = RECORD_OF_HOOK[hook]
    try:
        result = function()
    except Exception as error:
        raise _Refused(f"{hook} raised {_said(error)}", _repair(plugin)) from error
    records: list[Any] = list(result) if isinstance(result, (list, tuple)) else [result]
    for record in records:
        if type(record) is not expected:
            raise _Refused(
                f"{hook} must return a list of {expected.__name__}; got {record!r}",
                f"return [{expected.__name__}(...), ...]",
            )
    return records


def _missing(name: str, installed: set[str]) -> Plugin:
    what = f"{DISABLE_VARIABLE} names {name}, which is no installed plugin."
    problem = PluginProblem(
        name, what + near_names(name, installed), f"correct or remove it in {DISABLE_VARIABLE}"
    )
    return Plugin(name, "", "", "missing", problem=problem)


def _failed(plugin: Plugin, what: str, fix: str) -> Plugin:
    problem = PluginProblem(plugin.distribution, what, fix)
    return replace(plugin, status="failed", components=(), problem=problem)


def _repair(plugin: Plugin) -> str:
    name = plugin.distribution
    return f"pip install --upgrade {name}, or go without it: {DISABLE_VARIABLE}={name}"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
