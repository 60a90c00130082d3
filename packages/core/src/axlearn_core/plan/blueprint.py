"""A trainer's step, traced once for all meshes, micro-batches and machines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, cast

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from axlearn_core.parallel import MESH_AXES, Placement, placing
from axlearn_core.plan.census import Census, take_census
from axlearn_core.plan.labels import Array, labelled
from axlearn_core.training.input import tokens_per_step
from axlearn_core.training.learner import Learner, LearnerUpdate, Params
from axlearn_core.training.state import initial_state, state_axes
from axlearn_core.training.step import make_train_step
from axlearn_core.training.trainer import Trainer

PARAMETERS: Final = "params"
OPTIMIZER: Final = "learner"
BATCH: Final = "batch"


@dataclass(frozen=True)
class Argument:
    """One array that the step is given."""

    path: str  # its first part is PARAMETERS, OPTIMIZER, BATCH or another field of the state
    array: Array
    dtype: str
    axes: tuple[str | None, ...]

    @property
    def part(self) -> str:
        return self.path.partition(".")[0]


@dataclass(frozen=True)
class Blueprint:
    """What planning by arithmetic needs to know of a trainer.

    Attributes:
        arguments: the state, then the batch.
        tokens: per step.
        census: of the loss and its gradient, for the whole batch at once.
        model_flops: per step, None if the model does not tell.
        dtype: in which the model computes.
    """

    arguments: tuple[Argument, ...]
    tokens: int
    census: Census
    model_flops: float | None
    dtype: str

    @property
    def parameter_count(self) -> int:
        shapes = [a.array.shape for a in self.arguments if a.part == PARAMETERS]
        return sum(map(math.prod, shapes))

    @property
    def rows(self) -> int:
        return next(a for a in self.arguments if a.part == BATCH).array.shape[0]


class _GradientsOnly(Learner):
    """Lets the step end where the optimizer would begin, which works in place."""

    def __init__(self) -> None:
        super().__init__(Learner.Config(), specs={})

    def update(
        self, grads: Params, opt_state: Any, params: Params, step: jax.Array
    ) -> LearnerUpdate:
        return LearnerUpdate(grads, opt_state, {"gradient_norm": jnp.zeros(())})


def draw(trainer: Trainer) -> Blueprint:
    """Traces a trainer's step, without devices: a second or so, however deep the model is.

    Kernels are those of plain JAX, since others can be traced only for the machine they are for.
    """
    cfg, model, learner = trainer.config, trainer.model, trainer.learner
    shapes = trainer.input.batch_shape()
    batch = {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}
    step = make_train_step(model, _GradientsOnly(), compute_dtype=cfg.compute_dtype)
    state = jax.eval_shape(lambda: initial_state(model, learner, cfg.seed))
    nowhere = AbstractMesh((1,) * len(MESH_AXES), MESH_AXES)
    with placing(Placement(nowhere, cfg.sharding_rules)):
        closed = jax.make_jaxpr(step)(state, batch)

    leaves, tree = jax.tree_util.tree_flatten_with_path(state)
    arguments = [
        _argument(jax.tree_util.keystr(path, simple=True, separator="."), x, axes)
        for (path, x), axes in zip(
            leaves, cast(Any, tree).flatten_up_to(state_axes(model, learner)), strict=True
        )
    ]
    arguments += [
        _argument(f"{BATCH}.{name}", x, ("batch", "seq", *[None] * x.ndim)[: x.ndim])
        for name, x in sorted(batch.items())
    ]
    census = take_census(
        closed,
        [argument.array for argument in arguments],
        [argument.path if argument.part == PARAMETERS else None for argument in arguments],
    )
    dims = {name: shape for name, (shape, _) in shapes.items()}
    flops = model.flops_per_step(dims)
    dtype = cfg.compute_dtype or "float32"
    return Blueprint(tuple(arguments), tokens_per_step(shapes), census, flops, dtype)


def _argument(path: str, x: jax.ShapeDtypeStruct, axes: tuple[str | None, ...]) -> Argument:
    return Argument(path, Array(labelled(x.shape, axes), x.dtype.itemsize), x.dtype.name, axes)
