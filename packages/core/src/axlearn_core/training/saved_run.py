"""A run as its directory holds it: the config it was trained with, and a state to use again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from axlearn_core.checkpoint import CheckpointInfo
from axlearn_core.checkpoint.checkpointer import restore
from axlearn_core.config import ConfigBase, ConfigError, apply_overrides
from axlearn_core.config.text import flat
from axlearn_core.config.tree import assign, walk
from axlearn_core.plugins import Registry
from axlearn_core.training.assemble import RUN_CONFIG, assemble, config_of_checkpoint
from axlearn_core.training.compile_cache import use_compile_cache
from axlearn_core.training.program import Program
from axlearn_core.training.run_directory import differences_since, read_run
from axlearn_core.training.state import TrainState
from axlearn_core.training.trainer import Trainer

IN_RUN = "{run}/"
"""A text of a saved config that begins so is a path in the directory of its run."""


class SavedRun(NamedTuple):
    """A trainer and the state of one of its checkpoints, on this machine's devices."""

    trainer: Trainer
    program: Program
    state: TrainState


def saved_config(checkpoint: CheckpointInfo, registry: Registry) -> Trainer.Config:
    """Returns the config that a checkpoint was saved with.

    It is read from the checkpoint if registered components are all it has. Otherwise the run's
    experiment is assembled again, with the values that the run's directory remembers.

    Raises:
        ConfigError: if neither gives the config of that run.
    """
    run = checkpoint.path.parents[1]
    if (checkpoint.path / RUN_CONFIG).exists():
        config = config_of_checkpoint(checkpoint.path, Trainer.Config, registry)
        return _in_run(cast(Trainer.Config, config), run)
    try:
        return config_of_run(run, registry)
    except ConfigError as error:
        missing = checkpoint.path / f"{RUN_CONFIG}.missing"
        why = missing.read_text(encoding="utf-8") if missing.exists() else "it is not there"
        raise ConfigError(
            f"{run} cannot be rebuilt. {checkpoint.path} has no {RUN_CONFIG}: {why}\nAnd {error}"
        ) from error


def config_of_run(directory: Path, registry: Registry) -> Trainer.Config:
    """Assembles a run's experiment again, with the values that its directory remembers.

    Raises:
        ConfigError: if that does not give the config of the run.
    """
    experiment, values = read_run(directory)
    try:
        return _assembled_again(experiment, values, registry)
    except ConfigError as error:
        raise ConfigError(
            f"experiment {experiment!r} does not give that config: {error}"
        ) from error


def _in_run(config: Trainer.Config, run: Path) -> Trainer.Config:
    """Puts the run's directory where paths begin with `IN_RUN`, so that runs may be moved."""
    for keys, value in list(walk(config)):
        if isinstance(value, str) and value.startswith(IN_RUN):
            assign(config, keys, str(run / value.removeprefix(IN_RUN)))
    return config


def _assembled_again(name: str, values: dict[str, str], registry: Registry) -> Trainer.Config:
    now = flat(assemble(name, [], registry).config)
    changed = [path for path, value in values.items() if now.get(path) != value]
    config = assemble(name, [f"{path}={values[path]}" for path in changed], registry).config
    if differing := [difference.path for difference in differences_since(values, config)]:
        raise ConfigError(f"it differs in {', '.join(differing[:8])}")
    return cast(Trainer.Config, config)


def load_run(
    checkpoint: CheckpointInfo,
    registry: Registry,
    *,
    overrides: Sequence[str] = (),
    **fields: Any,
) -> SavedRun:
    """Restores a checkpoint.

    Args:
        checkpoint: an intact one.
        registry: resolves the config's components.
        overrides: `path=value` words for the trainer's config.
        fields: further values of the trainer's config.

    Raises:
        UserError: if the config or the arrays cannot be read.
    """
    config: ConfigBase = saved_config(checkpoint, registry).set(**fields)
    config = apply_overrides(config, overrides, resolve=registry.lookup)
    trainer: Trainer = config.instantiate()
    use_compile_cache(trainer.config.compile_cache)
    program = trainer.program(trainer.placement())
    return SavedRun(trainer, program, restore(checkpoint.path, program.state))
