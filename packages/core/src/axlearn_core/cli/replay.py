"""`axl replay`: what happened in one step of a run."""

from __future__ import annotations

from pathlib import Path

import click

from axlearn_core.cli.experiment import as_json_option, overrides_argument, print_json, run_argument
from axlearn_core.cli.machine import start
from axlearn_core.cli.text import table
from axlearn_core.plugins import get_registry


@click.command()
@run_argument
@click.argument("step", type=int)
@overrides_argument
@as_json_option
def replay(directory: Path, step: int, overrides: tuple[str, ...], as_json: bool) -> None:
    """Make STEP of the run in DIR again, from the checkpoint before, and look into it.

    Prints the loss, the norm of the gradient by group of parameters, and where the first value
    arises that is not finite. A batch that was kept in DIR/faults is used. Nothing is written.

    Each PATH=VALUE changes the config, such as mesh_shape.data=1 on a smaller machine.
    """
    registry = get_registry()
    start(registry)
    from axlearn_core.guards.replay import replay as replayed

    def say(line: str) -> None:
        click.echo(line, err=True)

    found = replayed(directory, step, registry, overrides=overrides, say=say)
    if as_json:
        print_json(
            {
                "step": step,
                "loss": str(found.loss),  # JSON has neither infinity nor NaN
                "gradient_norms": {name: str(x) for name, x in found.gradient_norms.items()},
                "where": found.where,
            }
        )
        return
    click.echo(f"loss {found.loss}")
    rows = [(name, f"{norm:.6g}") for name, norm in found.gradient_norms.items()]
    click.echo(table(("parameters", "gradient norm"), rows))
    click.echo(f"not finite: {found.where}" if found.where else "everything is finite")
