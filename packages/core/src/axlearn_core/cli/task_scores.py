"""`axl eval DIR --tasks`: scores of a checkpoint by a plugin's evaluator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from axlearn_core.checkpoint import CheckpointInfo
from axlearn_core.cli.experiment import print_json
from axlearn_core.cli.text import table
from axlearn_core.errors import UserError
from axlearn_core.plugins import Registered, Registry
from axlearn_core.training.evaluator import Evaluator, Scores, TaskRequest

F = TypeVar("F", bound=Callable[..., Any])

FILE = "evaluations.jsonl"
"""In the directory of a run: what `axl eval --tasks` found, a line per call."""

_OPTIONS = (
    click.option("--tasks", help="Score these tasks instead, such as arc_easy,hellaswag."),
    click.option("--limit", type=click.IntRange(min=1), help="Examples of each task at most."),
    click.option("--batch-size", type=click.IntRange(min=1), help="Of examples.  [default: 8]"),
    click.option("--num-fewshot", type=click.IntRange(min=0), help="Solved examples before each."),
    click.option(
        "--include-path",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="A folder with tasks of your own, and of no others.",
    ),
    click.option(
        "--apply-chat-template",
        is_flag=True,
        default=None,
        help="Write questions as messages, by the model's chat template.",
    ),
    click.option(
        "--fewshot-as-multiturn/--fewshot-in-one-turn",
        default=None,
        help="Solved examples are turns before the question.  [default: they are]",
    ),
    click.option("--system-instruction", help="What stands before all questions."),
    click.option("--evaluator", help="Which, if several are installed."),
)


def task_options(command: F) -> F:
    """Adds --tasks, and what goes with it."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def without_tasks(options: dict[str, Any]) -> None:
    """Refuses what means nothing without --tasks."""
    if given := [name for name, value in options.items() if value is not None]:
        raise click.UsageError(f"--{given[0].replace('_', '-')} goes with --tasks")


def score_tasks(
    checkpoint: CheckpointInfo,
    registry: Registry,
    overrides: tuple[str, ...],
    *,
    tasks: str,
    evaluator: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Scores a checkpoint, prints the scores, and adds them to the run's file."""
    names = tuple(name.strip() for name in tasks.split(",") if name.strip())
    if not names:
        raise click.UsageError("--tasks takes names, such as --tasks arc_easy,hellaswag")
    given = {name: value for name, value in options.items() if value is not None}
    found = _evaluator(registry, evaluator)
    score: Evaluator = found.load()
    scores = score(checkpoint, TaskRequest(names, overrides, **given))
    facts = {"step": checkpoint.step, "evaluator": found.qualified_name}
    if overrides:
        facts["overrides"] = list(overrides)
    shown = {name: value if isinstance(value, int) else str(value) for name, value in given.items()}
    line = {**facts, **shown, "tasks": scores}
    _append(checkpoint.path.parents[1] / FILE, line)
    if as_json:
        print_json(line)
    else:
        click.echo(table(("task", "metric", "value"), _rows(scores)))


def _evaluator(registry: Registry, name: str | None) -> Registered:
    installed = registry.records("evaluator")
    if name is not None:
        return registry.get("evaluator", name)
    if not installed:
        raise UserError("no evaluator is installed: pip install 'axlearn-inference[eval]'")
    if len(installed) > 1:
        names = ", ".join(found.qualified_name for found in installed)
        raise UserError(f"several evaluators are installed; say which by --evaluator: {names}")
    return installed[0]


def _rows(scores: Scores) -> list[tuple[str, str, str]]:
    return [
        (task, metric, f"{value:.4f}")
        for task, metrics in scores.items()
        for metric, value in metrics.items()
    ]


def _append(path: Path, line: object) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
