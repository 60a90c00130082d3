"""`axl experiments`: what there is to train."""

from __future__ import annotations

import click

from axlearn_core.cli.experiment import as_json_option, print_json
from axlearn_core.cli.text import table
from axlearn_core.plugins import get_registry


@click.command()
@as_json_option
def experiments(as_json: bool) -> None:
    """List the experiments that plugins provide."""
    registry = get_registry()
    found = sorted(registry.records("experiment"), key=lambda component: component.name)
    names = [c.qualified_name if registry.conflicts(c) else c.name for c in found]
    if as_json:
        print_json(
            [
                {"name": name, "plugin": c.distribution, "summary": c.record.summary}
                for name, c in zip(names, found, strict=True)
            ]
        )
        return
    rows = [(name, c.record.summary) for name, c in zip(names, found, strict=True)]
    click.echo(table(("experiment", "summary"), rows))
    if not rows:
        click.echo("none is installed: pip install axlearn-experiments, or write module:function")
