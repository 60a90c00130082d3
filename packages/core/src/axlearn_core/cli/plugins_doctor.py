"""`axl plugins doctor`: what an author should mend in a plugin, and how."""

from __future__ import annotations

import dataclasses
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

import click

from axlearn_core.cli.experiment import as_json_option, print_json
from axlearn_core.cli.text import counted

if TYPE_CHECKING:
    from axlearn_core.testing.doctor import Examination


@click.command()
@click.argument("distribution", required=False)
@as_json_option
@click.pass_context
def doctor(ctx: click.Context, distribution: str | None, as_json: bool) -> None:
    """Examine the plugin of a DISTRIBUTION, or all: metadata, import, records, components.

    Exits with 1 if something must be fixed.
    """
    from axlearn_core.testing.doctor import all_plugins, examine

    found = []
    for name in [distribution] if distribution else all_plugins():
        found.append(examine(name))
        if not as_json:
            click.echo(_text(found[-1]))
    severities = Counter(f.severity for examination in found for f in examination.findings)
    if as_json:
        print_json([dataclasses.asdict(examination) for examination in found])
    else:
        counts = [counted(severities[severity], severity) for severity in ("error", "warning")]
        click.echo(f"\n{counted(len(found), 'plugin')}: {', '.join(counts)}")
    ctx.exit(1 if severities["error"] else 0)


def _text(examination: Examination) -> str:
    seconds = examination.import_seconds
    facts = [counted(examination.components, "component")]
    if seconds is not None:
        facts.append(f"imported in {seconds:.3f} s")
    if not examination.findings:
        facts.append("ok")
    head = f"{examination.distribution} {examination.version}: {', '.join(facts)}"
    return "\n".join([head, *(textwrap.indent(str(f), "  ") for f in examination.findings)])
