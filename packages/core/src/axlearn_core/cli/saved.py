"""`axl eval`: what a trained model is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from axlearn_core.cli.experiment import (
    as_json_option,
    chosen_checkpoint,
    overrides_argument,
    print_json,
    run_argument,
    step_option,
)
from axlearn_core.cli.machine import joined, start
from axlearn_core.cli.task_scores import score_tasks, task_options, without_tasks
from axlearn_core.cli.text import table
from axlearn_core.errors import UserError
from axlearn_core.plugins import get_registry


@click.command("eval")
@run_argument
@overrides_argument
@step_option
@as_json_option
@task_options
def evaluate(
    directory: Path,
    overrides: tuple[str, ...],
    step: int | None,
    as_json: bool,
    tasks: str | None,
    **options: Any,
) -> None:
    """Evaluate a checkpoint of the run in DIR on the evaluations of its config.

    Each PATH=VALUE changes that config, such as evaluations.held_out.max_batches=10. With --tasks,
    an installed evaluator scores tasks that it knows by name instead.
    """
    checkpoint = chosen_checkpoint(directory, step)
    machine = start(get_registry())
    if tasks is None:
        without_tasks(options)
    else:
        score_tasks(checkpoint, get_registry(), overrides, tasks=tasks, as_json=as_json, **options)
        return
    from axlearn_core.parallel import is_first
    from axlearn_core.training.saved_run import load_run

    with joined(machine):
        run = load_run(checkpoint, get_registry(), overrides=overrides, writers=[])
        if not run.trainer.evaluations:
            raise UserError(
                f"the config of {directory} has no evaluations; add some to its experiment"
            )
        values = {e.name: e.run(run.program, run.state) for e in run.trainer.evaluations}
    if not is_first():
        return
    if as_json:
        print_json({"step": checkpoint.step, "evaluations": values})
        return
    header = ("evaluation", "nats/token", "nats/character", "tokens")
    click.echo(table(header, [_row(name, found) for name, found in values.items()]))


def _row(name: str, values: dict[str, float]) -> tuple[str, ...]:
    characters = values.get("loss_per_character")
    return (
        name,
        f"{values['loss']:.4f}",
        "-" if characters is None else f"{characters:.4f}",
        f"{values['tokens']:.0f}",
    )
