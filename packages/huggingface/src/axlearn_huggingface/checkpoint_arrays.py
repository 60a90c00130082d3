"""The parameters of a checkpoint as arrays that stay on the disk until a part of one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from axlearn_core.checkpoint import ArrayInfo, CheckpointInfo, read_manifest
from axlearn_core.checkpoint.arrays import numpy_dtype
from axlearn_core.checkpoint.checkpointer import flatten_state
from axlearn_core.config import find
from axlearn_core.errors import UserError
from axlearn_core.module.context import Tree
from axlearn_core.plugins import get_registry
from axlearn_core.training.saved_run import load_run
from axlearn_core.training.state import TrainState, merge_trees
from axlearn_core.training.trainer import Trainer
from axlearn_huggingface.weights.axes import Array
from axlearn_layers.adapter import Adapter
from axlearn_layers.merging import merge_adapters


class DiskArray:
    """An array of a checkpoint, of which one reads what lies at an index of its leading axes."""

    def __init__(self, folder: Path, info: ArrayInfo):
        self._folder, self._info = folder, info
        self._dtype = numpy_dtype(info.dtype)

    def __getitem__(self, key: tuple[Any, ...]) -> Array:
        """Returns the part at indices that `...` follows: a view of a file if all is in one."""
        indices = key[:-1]
        cut = len(indices)
        shape = self._info.shape[cut:]
        found = [
            (self._chunk(name, ranges, indices), tuple(slice(*each) for each in ranges[cut:]))
            for name, ranges in self._info.shards.items()
            if all(start <= i < to for i, (start, to) in zip(indices, ranges, strict=False))
        ]
        if len(found) == 1:
            return found[0][0]
        whole = np.empty(shape, self._dtype)
        for part, place in found:
            whole[place] = part
        return whole

    def _chunk(
        self, name: str, ranges: tuple[tuple[int, int], ...], indices: tuple[int, ...]
    ) -> Array:
        held = np.memmap(self._folder / name, np.uint8, "r").view(self._dtype)
        at = [i - start for i, (start, _) in zip(indices, ranges, strict=False)]
        inside = [slice(0, to - start) for start, to in ranges[len(indices) :]]
        place: tuple[Any, ...] = (*at, *inside, ...)
        part: Array = held.reshape(self._info.chunk)[place]
        return part


def evaluation_parameters(checkpoint: CheckpointInfo, config: Trainer.Config) -> Tree:
    """Returns the parameters that a checkpoint is evaluated with, adapters merged into them.

    They stay on the disk, unless they have to be computed: adapters have, and some means.
    """
    if not find(config.model, Adapter):
        trainer: Trainer = config.clone(evaluations={}, writers=[]).instantiate()
        program = trainer.program(trainer.placement())
        if (names := _names(program.learner.evaluation_params, program.state)) is not None:
            arrays = read_manifest(checkpoint.path).arrays
            if not arrays:
                raise UserError(f"{checkpoint.path} keeps its arrays as older versions did")
            disk = {name: DiskArray(checkpoint.path, info) for name, info in arrays.items()}
            params = jax.tree.map(disk.__getitem__, names)
            state = flatten_state(program.state.module_state)
            rest = {name: disk[f"module_state.{name}"] for name in state}
            leaves, structure = list(rest.values()), jax.tree.structure(program.state.module_state)
            return merge_trees(params, jax.tree.unflatten(structure, leaves))
    run = load_run(checkpoint, get_registry(), evaluations={}, writers=[])
    learner = run.program.learner
    trained = learner.evaluation_params(run.state.params, run.state.learner)
    return merge_adapters(run.trainer.model, merge_trees(trained, run.state.module_state))


def _names(function: Any, state: TrainState) -> Tree | None:
    """Returns the name of the state's array that each of a function's results is.

    None if some result is no array of the state.
    """
    inputs = {"params": state.params, "learner": state.learner}
    closed, shapes = jax.make_jaxpr(
        lambda given: function(given["params"], given["learner"]), return_shape=True
    )(inputs)
    held = dict(zip(map(id, closed.jaxpr.invars), flatten_state(inputs), strict=True))
    named = [held.get(id(result)) for result in closed.jaxpr.outvars]
    if None in named:
        return None
    tree: Tree = jax.tree.unflatten(jax.tree.structure(shapes), named)
    return tree
