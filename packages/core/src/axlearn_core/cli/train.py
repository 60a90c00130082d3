"""`axl train`: from an experiment's name to a trained model."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from axlearn_core.cli.experiment import build_trainer, experiment_arguments
from axlearn_core.cli.machine import choose_mesh_rule, joined, start
from axlearn_core.plugins import get_registry


@click.command()
@experiment_arguments
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="Of this run and no other.  [default: runs/EXPERIMENT]",
)
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Go on with a run though its config, plugins or data have changed.",
)
@click.pass_context
def train(
    ctx: click.Context,
    experiment: str,
    overrides: tuple[str, ...],
    directory: Path | None,
    accept_changes: bool,
) -> None:
    """Train EXPERIMENT, or go on with it where it stopped.

    EXPERIMENT is a name that `axl experiments` lists, or module:function. Each PATH=VALUE changes
    its config; `axl config keys EXPERIMENT` lists the paths.

    Ctrl-C and SIGTERM finish the step and save; the same command goes on from there.

    On a cluster start the same command once for each process; `axl launch` does it for you.
    """
    with _leaving_on_sigterm():
        code = _train(experiment, overrides, directory, accept_changes)
    ctx.exit(code)


def _train(
    experiment: str, overrides: tuple[str, ...], directory: Path | None, accept_changes: bool
) -> int:
    registry = get_registry()
    machine = start(registry)
    from axlearn_core.observe.clock import process_began
    from axlearn_core.training.assemble import assemble
    from axlearn_core.training.stopping import EXIT_INTERRUPTED

    for note in machine.notes:
        click.echo(note)
    with joined(machine):
        rule = choose_mesh_rule(machine, registry)
        assembled = assemble(experiment, overrides, registry, mesh_rule=rule)
        result = build_trainer(assembled.config).run(
            directory or Path("runs") / experiment.replace(":", "."),
            experiment=assembled.name,
            changes=assembled.changes(),
            began=process_began(),
            accept_changes=accept_changes,
        )
    return EXIT_INTERRUPTED if result.reason == "interrupted" else 0


@contextlib.contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """Within the block SIGTERM ends the process well: nothing is there yet that could be saved.

    The run puts a handler of its own in the place of this one.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(0)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
