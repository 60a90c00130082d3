"""`axl hooks`: what a plugin can implement, who does, and what each hook promises."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import click

from axlearn_core.cli.experiment import as_json_option, print_json
from axlearn_core.cli.text import table
from axlearn_core.config import near_names
from axlearn_core.plugins import HookCaller, PluginError, get_registry
from axlearn_core.plugins.hookspecs import ROLES
from axlearn_core.plugins.reference import HookReference, hook_references

_WIDTH = 88


@click.command()
@click.argument("name", required=False)
@as_json_option
def hooks(name: str | None, as_json: bool) -> None:
    """List the hooks a plugin can implement, and the plugins that do; or explain one, NAME."""
    caller = get_registry().hook
    known = hook_references()
    if name is not None and name not in known:
        raise PluginError(
            f"there is no hook {name!r}.{near_names(name, known)} `axl hooks` lists them."
        )
    if as_json:
        found = [_as_data(hook, caller) for hook in known.values() if name in (None, hook.name)]
        print_json(found if name is None else found[0])
    elif name is not None:
        click.echo("\n".join(_explained(known[name], caller)))
    else:
        for role in ROLES:
            rows = [
                (hook.signature, _implementers(hook, caller), hook.headline)
                for hook in known.values()
                if hook.role == role
            ]
            click.echo(table((f"hooks that {role}", "implemented by", ""), rows) + "\n")


def _explained(hook: HookReference, caller: HookCaller) -> Iterator[str]:
    yield f"{hook.signature}\n\n{hook.summary}\n"
    facts = {**hook.facts, "Implemented by": _implementers(hook, caller)}
    if hook.deprecation:
        facts["Deprecated"] = str(hook.deprecation)
    width = max(map(len, facts))
    for label, fact in facts.items():
        yield textwrap.fill(
            f"{label.ljust(width)}  {fact}",
            _WIDTH,
            subsequent_indent=" " * (width + 2),
            break_on_hyphens=False,  # they are in names
        )
    if hook.record:
        yield f"\nFields of {hook.record.__name__}:\n"
        yield textwrap.indent(table(("name", "type", "meaning"), hook.fields), "    ")
    yield "\nExample:\n\n" + textwrap.indent(hook.example, "    ")


def _as_data(hook: HookReference, caller: HookCaller) -> dict[str, Any]:
    return {
        "hook": hook.name,
        "role": hook.role,
        "signature": hook.signature,
        "summary": hook.summary,
        "facts": hook.facts,
        "record": hook.record.__name__ if hook.record else None,
        "fields": [field._asdict() for field in hook.fields],
        "example": hook.example,
        "deprecated": vars(hook.deprecation) if hook.deprecation else None,
        "plugins": sorted(caller.implementers(hook.name)),
    }


def _implementers(hook: HookReference, caller: HookCaller) -> str:
    return ", ".join(sorted(caller.implementers(hook.name))) or "-"
