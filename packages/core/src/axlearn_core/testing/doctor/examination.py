"""Examines an installed plugin: what it declares, how it is read, what its records point to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint

from packaging.utils import canonicalize_name

from axlearn_core.config import near_names
from axlearn_core.plugins import Discovery, PluginError, Registry, discover
from axlearn_core.plugins.manager import DISABLE_VARIABLE, STRICT_VARIABLE, installed
from axlearn_core.testing.doctor.alone import Reading, read_alone
from axlearn_core.testing.doctor.components import component_findings
from axlearn_core.testing.doctor.declaration import (
    core_findings,
    find_distribution,
    group_findings,
    misspelt,
    name_findings,
)
from axlearn_core.testing.doctor.finding import Finding


@dataclass(frozen=True)
class Examination:
    """What came of examining a plugin."""

    distribution: str
    version: str
    components: int
    import_seconds: float | None  # None if it cannot be told
    findings: tuple[Finding, ...]


def check_plugin(distribution: str) -> tuple[Finding, ...]:
    """Returns what an installed plugin should have otherwise, for tests of the plugin.

        findings = check_plugin("acme-norms")
        assert not findings, "\\n".join(map(str, findings))

    Raises:
        PluginError: if there is no such distribution.
    """
    return examine(distribution).findings


def examine(distribution: str) -> Examination:
    """Examines a plugin. Its components are imported, its experiments called.

    Args:
        distribution: as pip names it; that AXLEARN_DISABLE_PLUGINS names it changes nothing.

    Raises:
        PluginError: if there is no such distribution.
    """
    name = canonicalize_name(distribution)
    plugins = installed()
    entries = [entry for plugin, entry in plugins if plugin.distribution == name]
    others = [plugin.distribution for plugin, _ in plugins if plugin.distribution != name]
    if not entries:
        return _without_entry_point(name, others)
    reading = read_alone(name, others)
    discovery = _discover(name, usable=any(plugin.status == "ok" for plugin in reading.plugins))
    dist = entries[0].dist
    components = [
        component
        for plugin in discovery.plugins
        for component in plugin.components
        if plugin.distribution == name
    ]
    registry = Registry(discovery)
    findings = [
        *core_findings(name, (dist.requires if dist else None) or []),
        *name_findings(name, entries),
        *_reading_findings(reading),
        *_hook_findings(discovery, name, entries),
        *(f for component in components for f in component_findings(registry, component)),
    ]
    return Examination(
        name,
        next(plugin.version for plugin, _ in plugins if plugin.distribution == name),
        len(components),
        sum(p.import_seconds for p in reading.plugins) if reading.plugins else None,
        tuple(findings),
    )


def all_plugins() -> list[str]:
    """Returns the distributions to examine: plugins in use, and those that failed to become one."""
    disabled = {canonicalize_name(name.strip()) for name in _disabled()}
    return sorted(({plugin.distribution for plugin, _ in installed()} - disabled) | misspelt())


def _without_entry_point(name: str, plugins: Iterable[str]) -> Examination:
    found = find_distribution(name)
    if found is None:
        near = near_names(name, [*plugins, *misspelt()])
        raise PluginError(f"there is no plugin {name!r}.{near} `axl plugins` lists them.")
    return Examination(name, found.version, 0, None, tuple(group_findings(found)))


def _discover(name: str, *, usable: bool) -> Discovery:
    """Discovers the plugins in use, with or without one that is examined.

    A plugin that hangs or ends Python when it is read must not do so here.
    """
    disabled = [other for other in _disabled() if canonicalize_name(other.strip()) != name]
    environment = {**os.environ, DISABLE_VARIABLE: ",".join(disabled + [name] * (not usable))}
    environment.pop(STRICT_VARIABLE, None)
    return discover(environment)


def _disabled() -> list[str]:
    return os.environ.get(DISABLE_VARIABLE, "").split(",")


def _reading_findings(reading: Reading) -> Iterator[Finding]:
    if reading.ended:
        fix = "let the module of its entry point hold records and nothing else"
        yield Finding("error", reading.ended, fix)
    for plugin in reading.plugins:
        if plugin.problem:
            yield Finding("error", plugin.problem.what, plugin.problem.fix)
        elif plugin.slowness:
            yield Finding("warning", plugin.slowness.what, plugin.slowness.fix)


def _hook_findings(
    discovery: Discovery, name: str, entries: Sequence[EntryPoint]
) -> Iterator[Finding]:
    for entry in entries:
        implementation = discovery.manager.get_plugin(f"{name}:{entry.name}")
        if implementation and not discovery.manager.get_hookcallers(implementation):
            what = f"{entry.value} implements no hook, so the plugin adds nothing"
            yield Finding("warning", what, "add one of those that `axl hooks` lists, and @hookimpl")
    for plugin in discovery.plugins:
        if plugin.distribution == name:
            for deprecation in plugin.deprecations:
                yield Finding("warning", deprecation.what, deprecation.instead)
