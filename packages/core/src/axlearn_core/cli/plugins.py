"""`axl plugins` and `axl components`: what is installed, and what it can do."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from axlearn_core.cli.plugins_doctor import doctor
from axlearn_core.cli.text import counted, table
from axlearn_core.plugins.manager import DISABLE_VARIABLE, Plugin, discover
from axlearn_core.plugins.records import RECORD_TYPES
from axlearn_core.plugins.registered import Registered, plural
from axlearn_core.plugins.registry import Registry, get_registry

_STATUSES = ("ok", "slow", "heavy", "failed", "disabled", "missing")  # the better ones first
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@_as_json
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List the installed plugins, what is wrong with them, and what to do about it."""
    if ctx.invoked_subcommand is not None:
        return
    found = Registry(discover()).plugins  # get_registry() would log the problems once more
    if as_json:
        _print_json([_describe_plugin(plugin) for plugin in found])
        return
    rows = [(p.distribution, p.version, _shown(p), str(len(p.components))) for p in found]
    click.echo(table(("plugin", "version", "status", "components"), rows))
    for plugin in found:
        what, fix = _why(plugin)
        if what:
            click.echo(f"\n{plugin.distribution}: {what}\n  fix: {fix}")
        for deprecation in plugin.deprecations:
            click.echo(f"\n{plugin.distribution}: {deprecation.what}\n  fix: {deprecation.instead}")
    counts = Counter(map(_shown, found))
    listing = ", ".join(f"{counts[status]} {status}" for status in _STATUSES if counts[status])
    click.echo(f"\n{counted(len(found), 'plugin')}: {listing}")


plugins.add_command(doctor)


def _shown(plugin: Plugin) -> str:
    """Returns one of _STATUSES: whether a plugin is in use, and if so, at whose expense."""
    if plugin.status != "ok":
        return plugin.status
    if plugin.problem:
        return "heavy"
    return "slow" if plugin.slowness else "ok"


def _why(plugin: Plugin) -> tuple[str | None, str | None]:
    if plugin.status == "disabled":
        return f"named in {DISABLE_VARIABLE}", "remove it there to use it"
    problem = plugin.problem or plugin.slowness
    return (problem.what, problem.fix) if problem else (None, None)


def _describe_plugin(plugin: Plugin) -> dict[str, Any]:
    what, fix = _why(plugin)
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": plugin.entry_point,
        "status": plugin.status,
        "why": what,
        "fix": fix,
        "components": len(plugin.components),
        "import_seconds": round(plugin.import_seconds, 6),
        "deprecations": [vars(deprecation) for deprecation in plugin.deprecations],
    }


@click.command()
@click.argument("kind", required=False)
@_as_json
def components(kind: str | None, as_json: bool) -> None:
    """List what plugins provide, all of it or one KIND, such as `layer` or `layers`."""
    registry = get_registry()
    singular = {plural(record): record.kind for record in RECORD_TYPES}
    found = sorted(
        registry.records(kind and singular.get(kind, kind)), key=lambda c: (c.kind, c.name)
    )
    if as_json:
        _print_json([_describe_component(registry, component) for component in found])
        return
    rows = [_component_row(registry, component) for component in found]
    click.echo(table(("kind", "name", "plugin", "summary"), rows))


def _component_row(registry: Registry, component: Registered) -> Sequence[str]:
    # The bare name of a conflict means nobody, so it is shown as one has to write it.
    name = component.qualified_name if registry.conflicts(component) else component.name
    return component.kind, name, component.distribution, component.record.summary


def _describe_component(registry: Registry, component: Registered) -> dict[str, Any]:
    return {
        "kind": component.kind,
        **dataclasses.asdict(component.record),
        "qualified_name": registry.unique_name(component),
        "distribution": component.distribution,
        "version": component.version,
        "conflicts_with": [other.qualified_name for other in registry.conflicts(component)],
    }


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))
