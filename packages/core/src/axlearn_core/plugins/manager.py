"""Finds the installed plugins and reads their records; one broken plugin never stops another.

pluggy can load entry points by itself, but it imports all of them, stops at the first that fails,
and drops the second of two that share a name. Hence the loop here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal

import pluggy
from packaging.utils import canonicalize_name

from axlearn_core.config import near_names
from axlearn_core.plugins import hookspecs
from axlearn_core.plugins.checks import Refused, check_core_range, check_hooks, checked_records
from axlearn_core.plugins.errors import PluginError
from axlearn_core.plugins.hookspecs import HookDeprecation, deprecation_of, specifications
from axlearn_core.plugins.reading import read
from axlearn_core.plugins.records import RECORD_OF_HOOK, Record
from axlearn_core.plugins.registered import Registered
from axlearn_core.plugins.watch import SLOW_SECONDS, Seen, Watch

ENTRY_POINT_GROUP: Final = "axlearn_core.plugins"
DISABLE_VARIABLE: Final = "AXLEARN_DISABLE_PLUGINS"
STRICT_VARIABLE: Final = "AXLEARN_STRICT_PLUGINS"
_WATCH: Final = Watch()


@dataclass(frozen=True)
class PluginProblem:
    """Why a plugin is not in use or a burden on others, and what to do about it."""

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
    import_seconds: float = 0.0  # to import it and to collect its records
    deprecations: tuple[HookDeprecation, ...] = ()  # of the hooks that it implements

    @property
    def slowness(self) -> PluginProblem | None:
        """Says that importing takes longer than it should, None if it does not."""
        if self.import_seconds <= SLOW_SECONDS:
            return None
        what = (
            f"importing it takes {self.import_seconds:.1f} s, for which every axl command waits "
            f"(at most {SLOW_SECONDS:g} s are fine)"
        )
        fix = (
            "let the module of its entry point hold records and nothing else; to see where the "
            "time goes: python -X importtime -m axlearn_core.cli.main plugins"
        )
        return PluginProblem(self.distribution, what, fix)


@dataclass(frozen=True)
class Discovery:
    """All plugins in the order of their names, and the manager that holds those in use."""

    plugins: tuple[Plugin, ...]
    manager: pluggy.PluginManager
    strict: bool = False


def new_manager() -> pluggy.PluginManager:
    """Returns a manager that knows the hooks and has no plugins."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    for specified in hookspecs.ROLES.values():
        manager.add_hookspecs(specified)
    return manager


def discover(environ: Mapping[str, str] = os.environ, watch: Watch = _WATCH) -> Discovery:
    """Loads the installed plugins, as far as they can be used.

    Args:
        environ: AXLEARN_DISABLE_PLUGINS holds distributions to leave out, separated by commas;
            AXLEARN_STRICT_PLUGINS=1 turns problems into an error.
        watch: measures how long each plugin takes.

    Raises:
        PluginError: in strict mode, naming every problem.
        KeyboardInterrupt: on Ctrl-C, naming the plugin that was being imported.
    """
    manager = new_manager()
    names = environ.get(DISABLE_VARIABLE, "").split(",")
    disabled = {canonicalize_name(name.strip()): name.strip() for name in names if name.strip()}
    plugins = [
        replace(plugin, status="disabled")
        if plugin.distribution in disabled
        else _watched(plugin, entry, manager, watch)
        for plugin, entry in installed()
    ]
    known = {plugin.distribution for plugin in plugins}
    plugins += [_missing(disabled[name], known) for name in sorted(disabled.keys() - known)]
    strict = environ.get(STRICT_VARIABLE, "") not in ("", "0")
    problems = [plugin.problem for plugin in plugins if plugin.problem]
    if strict and problems:
        listing = "\n".join(map(str, problems))
        raise PluginError(f"{listing}\n(an error because {STRICT_VARIABLE} is set)")
    return Discovery(tuple(plugins), manager, strict)


def installed(group: str = ENTRY_POINT_GROUP) -> list[tuple[Plugin, EntryPoint]]:
    """Returns the installed plugins in the order of their names; none is imported."""
    found = [(_found(entry), entry) for entry in entry_points(group=group)]
    return sorted(found, key=lambda pair: (pair[0].distribution, pair[0].entry_point))


def register(manager: pluggy.PluginManager, plugin: Plugin, implementation: object) -> Plugin:
    """Checks a plugin's hooks, adds them to the manager and collects the records they return."""
    name = f"{plugin.distribution}:{plugin.entry_point}"
    try:
        check_hooks(manager, implementation)
        manager.register(implementation, name)
        return replace(
            plugin,
            components=_collect(manager, plugin, implementation),
            deprecations=_deprecations(manager, implementation),
        )
    except HookDeprecation as warning:  # Python was told to take warnings for errors
        return _failed(plugin, warning.what, warning.instead)
    except (pluggy.PluginValidationError, ValueError) as error:
        fix = "take only the arguments that `axl hooks` shows, once per module"
        return _failed(plugin, _said(error), fix)
    except Refused as refused:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        return _failed(plugin, refused.what, refused.fix)


def _found(entry: EntryPoint) -> Plugin:
    # An interrupted pip leaves folders without metadata; such a plugin is still to be named.
    metadata: Any = (entry.dist.metadata if entry.dist else None) or {}
    name, release = metadata.get("Name"), metadata.get("Version")
    return Plugin(canonicalize_name(name or entry.name), release or "unknown", entry.name, "ok")


def _watched(
    plugin: Plugin, entry: EntryPoint, manager: pluggy.PluginManager, watch: Watch
) -> Plugin:
    with watch.reading(plugin.distribution, _without(plugin)) as seen:
        plugin = _load(plugin, entry, manager)
    plugin = replace(plugin, import_seconds=seen.seconds)
    if plugin.status == "ok" and seen.heavy:
        return replace(plugin, problem=_heavy(plugin, entry, seen))
    return plugin


def _load(plugin: Plugin, entry: EntryPoint, manager: pluggy.PluginManager) -> Plugin:
    try:
        check_core_range(entry.dist.requires or [] if entry.dist else [])
        implementation = read(entry)
    except Refused as refused:
        return _failed(plugin, refused.what, refused.fix)
    except (Exception, SystemExit) as error:
        return _failed(plugin, f"importing {entry.value} failed: {_said(error)}", _repair(plugin))
    return register(manager, plugin, implementation)


def _collect(
    manager: pluggy.PluginManager, plugin: Plugin, implementation: object
) -> tuple[Registered, ...]:
    records: dict[tuple[str, str], Record] = {}
    for caller in manager.get_hookcallers(implementation) or []:
        own = [impl for impl in caller.get_hookimpls() if impl.plugin is implementation]
        for function in (impl.function for impl in own if caller.name in RECORD_OF_HOOK):
            for record in _call(caller.name, function, plugin):
                if records.setdefault((record.kind, record.name), record) is not record:
                    raise Refused(
                        f"{caller.name} returned two records named {record.name!r}",
                        "give each component of a kind its own name",
                    )
    return tuple(Registered(r, plugin.distribution, plugin.version) for r in records.values())


def _deprecations(
    manager: pluggy.PluginManager, implementation: object
) -> tuple[HookDeprecation, ...]:
    known = specifications()
    callers = manager.get_hookcallers(implementation) or []
    found = (deprecation_of(known[caller.name]) for caller in callers)
    return tuple(deprecation for deprecation in found if deprecation)


def _call(hook: str, function: Callable[[], object], plugin: Plugin) -> list[Record]:
    try:
        return checked_records(hook, function())
    except Refused:
        raise
    except (Exception, SystemExit) as error:
        raise Refused(f"{hook} raised {_said(error)}", _repair(plugin)) from error


def _missing(name: str, installed: set[str]) -> Plugin:
    what = f"{DISABLE_VARIABLE} names {name}, which is no installed plugin."
    problem = PluginProblem(
        name, what + near_names(name, installed), f"correct or remove it in {DISABLE_VARIABLE}"
    )
    return Plugin(name, "", "", "missing", problem=problem)


def _failed(plugin: Plugin, what: str, fix: str) -> Plugin:
    problem = PluginProblem(plugin.distribution, what, fix)
    return replace(plugin, status="failed", components=(), problem=problem)


def _heavy(plugin: Plugin, entry: EntryPoint, seen: Seen) -> PluginProblem:
    chains = "; ".join(seen.heavy.values())
    what = f"it imports {', '.join(seen.heavy)} when axl reads it ({chains})"
    if "jax" in seen.heavy:
        what += ": JAX starts before axl has chosen its platform and flags"
    fix = (
        f"take the import out of {entry.module} and what that imports: a record names its target "
        "as text, and the target is imported when it is asked for"
    )
    return PluginProblem(plugin.distribution, what, fix)


def _repair(plugin: Plugin) -> str:
    return f"pip install --upgrade {plugin.distribution}, or go without it: {_without(plugin)}"


def _without(plugin: Plugin) -> str:
    return f"{DISABLE_VARIABLE}={plugin.distribution}"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
