"""A run directory made of parameters from elsewhere, with a checkpoint before any step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from axlearn_core.checkpoint.checkpointer import flatten_state
from axlearn_core.checkpoint.streaming import Part, write_streamed
from axlearn_core.config import config_hash
from axlearn_core.errors import UserError
from axlearn_core.module import flatten_paths
from axlearn_core.module.parameters import ParameterSpec
from axlearn_core.parallel import Placement
from axlearn_core.plugins import get_registry
from axlearn_core.training.program import Program
from axlearn_core.training.run_directory import open_run
from axlearn_core.training.state import TrainState
from axlearn_core.training.trainer import Trainer

Parameter = tuple[str, tuple[int, ...], np.ndarray[Any, Any]]
"""Its path (stack/layer/norm/scale), an index of its leading axes, and what is there."""


@contextlib.contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Yields a directory to write into, which becomes `directory` when the block ends well.

    Raises:
        UserError: if `directory` is there already.
    """
    if directory.exists():
        raise UserError(f"{directory} is there already; choose another name, or delete it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f"{directory.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_run(
    directory: Path, trainer: Trainer, parameters: Iterable[Parameter], *, changes: Sequence[str]
) -> Path:
    """Makes a directory that of a run at step 0, and returns its checkpoint's folder.

    Files are cut as the trainer's mesh cuts the arrays. One parameter at a time is in memory.

    Args:
        directory: a new one.
        trainer: whose model's parameters they are.
        parameters: every element of each, once.
        changes: lines that say where they come from.

    Raises:
        UserError: for a learner whose state would depend on the parameters.
    """
    if trainer.learner.trains:
        raise UserError("a run of given parameters begins with a learner without state: Frozen")
    placement = trainer.placement()
    program = trainer.program(placement)
    specs = flatten_paths(trainer.model.parameter_specs())
    structs = dict(flatten_state(program.state))
    rest = _without_parameters(program, placement)
    plugins = get_registry().fingerprint()
    facts = {
        "input": {},
        "input_description": trainer.input.describe(),
        "plugins": plugins,
        "config_hash": config_hash(trainer.config),
        "values": {},
        "measured": {},
    }

    def parts() -> Iterator[Part]:
        for name, array in rest.items():
            yield Part(name, (), array)
        for path, indices, array in parameters:
            yield Part(_name(path, specs[path]), indices, array)

    run = {"experiment": "(imported)", "changes": list(changes), "plugins": plugins}
    with open_run(directory, trainer.config, run):
        return write_streamed(directory, 0, structs, parts(), facts, trainer.config_texts())


def _name(path: str, spec: ParameterSpec) -> str:
    kind = "params" if spec.trainable else "module_state"
    return f"{kind}.{path.replace('/', '.')}"


def _without_parameters(program: Program, placement: Placement) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the arrays of an initial state that are no parameters, by name."""

    def begin() -> TrainState:
        state = program.initial()
        return dataclasses.replace(state, params={}, module_state={})

    # What draws the parameters is never run, since nothing of it comes out.
    arrays = flatten_state(jax.jit(begin, out_shardings=placement.sharding())())
    return cast(
        "dict[str, np.ndarray[Any, Any]]", {name: np.asarray(x) for name, x in arrays.items()}
    )
