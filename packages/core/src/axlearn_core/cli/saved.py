"""`axl eval` and `axl generate`: what a trained model is worth, and what it has to say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from axlearn_core.checkpoint import CheckpointInfo, choose
from axlearn_core.cli.experiment import (
    as_json_option,
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

if TYPE_CHECKING:
    from axlearn_core.training.tokenizer import Tokenizer


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
    checkpoint = _chosen(directory, step)
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


@click.command()
@run_argument
@click.option("--prompt", default="", help="The text to continue.  [default: a document's start]")
@click.option("--ids", help="Token ids to continue instead, such as 3,1,4; prints ids.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=200, show_default=True)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.8,
    show_default=True,
    help="0 always takes the most likely token.",
)
@click.option("--top-k", type=click.IntRange(min=1), help="Draw from so many tokens.")
@click.option("--seed", type=int, default=0, show_default=True)
@step_option
def generate(
    directory: Path, prompt: str, ids: str | None, step: int | None, **options: Any
) -> None:
    """Let the model of the run in DIR continue a text."""
    checkpoint = _chosen(directory, step)
    start(get_registry())
    from axlearn_core.training.sampling import sample
    from axlearn_core.training.saved_run import load_run

    # One row cannot be split over devices; and no data is needed but for its tokenizer.
    on_one_device: dict[str, Any] = {
        "mesh_shape": {"data": 1},
        "slow_mesh_shape": {},
        "evaluations": {},
        "writers": [],
    }
    trainer, program, state = load_run(checkpoint, get_registry(), **on_one_device)
    params = program.learner.evaluation_params(state.params, state.learner)
    state = dataclasses.replace(state, params=params)
    tokenizer = trainer.input.tokenizer()
    options["compute_dtype"] = trainer.config.compute_dtype

    def follow(prompt_ids: list[int]) -> Iterator[int]:
        return sample(trainer.model, state, prompt_ids, **options)

    if ids is not None:
        pieces: Iterable[str] = (f"{token} " for token in follow(_parsed(ids)))
    elif tokenizer is not None:
        pieces = chain([prompt], _text(follow(_encoded(prompt, tokenizer)), tokenizer))
    else:
        raise UserError(
            f"{type(trainer.input).__qualname__}, the input of {directory}, has no tokenizer; "
            "give token ids instead of text: --ids 3,1,4"
        )
    for piece in pieces:
        click.echo(piece, nl=False)
    click.echo()


def _chosen(directory: Path, step: int | None) -> CheckpointInfo:
    checkpoint, damaged = choose(directory, step)
    assert checkpoint is not None  # choose raises
    for bad in damaged:
        click.echo(f"the checkpoint of step {bad.step} is damaged: {bad.problem}", err=True)
    click.echo(f"step {checkpoint.step} of {directory}", err=True)
    return checkpoint


def _parsed(ids: str) -> list[int]:
    try:
        return [int(word) for word in ids.replace(",", " ").split()]
    except ValueError:
        raise UserError(f"--ids must be numbers, such as 3,1,4; got {ids!r}") from None


def _encoded(prompt: str, tokenizer: Tokenizer) -> list[int]:
    """A document begins with bos, where the tokenizer has such an id."""
    ids = [tokenizer.bos_id] if tokenizer.bos_id >= 0 else []
    ids += tokenizer.encode(prompt).tolist()
    if not ids:
        raise UserError("this tokenizer marks no start of a document: give a --prompt")
    return ids


def _text(ids: Iterator[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Decodes ids as they come; what may be half a character waits for its other half."""
    read: list[int] = []
    written = 0
    for token in ids:
        if token == tokenizer.eos_id:
            break
        read.append(token)
        text = tokenizer.decode(read)
        whole = len(text.rstrip("\N{REPLACEMENT CHARACTER}"))
        if whole > written:
            yield text[written:whole]
            written = whole
    yield tokenizer.decode(read)[written:]
