"""What several commands share: their arguments, and the way from a name to a trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from axlearn_core.checkpoint import CheckpointInfo, choose
from axlearn_core.config import ConfigBase, ConfigError

if TYPE_CHECKING:
    from axlearn_core.training.trainer import Trainer

F = TypeVar("F", bound=Callable[..., Any])

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
overrides_argument = click.argument("overrides", nargs=-1, metavar="[PATH=VALUE]...")
run_argument = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


def experiment_arguments(command: F) -> F:
    """Adds `EXPERIMENT [PATH=VALUE]...`."""
    return click.argument("experiment")(overrides_argument(command))


def step_option(command: F) -> F:
    """Adds `--step N`, which checkpoint."""
    return click.option("--step", type=int, help="Of this step.  [default: the newest intact one]")(
        command
    )


def chosen_checkpoint(directory: Path, step: int | None) -> CheckpointInfo:
    """Finds the intact checkpoint of a step, or the newest, and says which it is.

    Raises:
        UserError: if there is none.
    """
    checkpoint, damaged = choose(directory, step)
    assert checkpoint is not None  # choose raises
    for bad in damaged:
        click.echo(f"the checkpoint of step {bad.step} is damaged: {bad.problem}", err=True)
    click.echo(f"step {checkpoint.step} of {directory}", err=True)
    return checkpoint


def build_trainer(config: ConfigBase) -> Trainer:
    """Builds the trainer that an experiment's config describes.

    Raises:
        ConfigError: if it describes something else, or what cannot be built.
    """
    from axlearn_core.training.trainer import Trainer

    if not isinstance(config, Trainer.Config):
        raise ConfigError(
            f"an experiment must return a Trainer.Config, got {type(config).__qualname__}"
        )
    trainer: Trainer = config.instantiate()
    return trainer


def print_json(value: object) -> None:
    """Prints JSON as all commands do."""
    click.echo(json.dumps(value, indent=2))
