"""A trainer's step, traced once for all meshes, micro-batches and machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from axlearn_core.config import ConfigBase
from axlearn_core.parallel import MESH_AXES, Placement, placing
from axlearn_core.plan.census import Census, take_census
from axlearn_core.training.learner import Learner, LearnerUpdate, Params
from axlearn_core.training.state import initial_state, state_axes
from axlearn_core.training.step import make_train_step
from axlearn_core.training.trainer import Trainer


@dataclass(frozen=True)
class Blueprint:
    """What planning by arithmetic needs to know of a trainer.

    Attributes:
        census: of the loss and its gradient, for the whole batch at once.
        rows: of a batch.
        tokens: of a batch.
        model_flops: per step, None if the model does not tell.
    """

    census: Census
    rows: int
    tokens: int
    model_flops: float | None


class _GradientsOnly(Learner):
    """Lets the step end where the optimizer would begin, which works in place."""

    class Config(Learner.Config):
        """No fields."""

    def __init__(self) -> None:
        super().__init__(self.Config(), specs={})

    def update(
        self, grads: Params, opt_state: Any, params: Params, step: jax.Array
    ) -> LearnerUpdate:
        return LearnerUpdate(grads, opt_state, {"gradient_norm": jnp.zeros(())})


def draw(trainer: Trainer) -> Blueprint:
    """Traces a trainer's step, without devices: a second or so, however deep the model is.

    Kernels are those of plain JAX, since others can be traced only for the machine they are for.
    """
    cfg: ConfigBase = trainer.config
    model, learner = trainer.model, trainer.learner
    shapes = trainer.input.batch_shape()
    batch = {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}
    step = make_train_step(model, _GradientsOnly(), compute_dtype=cfg.compute_dtype)
    state = jax.eval_shape(lambda: initial_state(model, learner, cfg.seed))
    nowhere = AbstractMesh((1,) * len(MESH_AXES), MESH_AXES)
    with placing(Placement(nowhere, cfg.sharding_rules)):
        closed = jax.make_jaxpr(step)(state, batch)

    leaves, tree = jax.tree_util.tree_flatten_with_path(state)
    axes = [*cast(Any, tree).flatten_up_to(state_axes(model, learner))]
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    parameters = [path if path.startswith(".params") else None for path in paths]
    for x in jax.tree.leaves(batch):
        axes.append((*("batch", "seq")[: x.ndim], *[None] * (x.ndim - 2)))
        parameters.append(None)
    dims = {name: shape for name, (shape, _) in shapes.items()}
    return Blueprint(
        take_census(closed, [tuple(names) for names in axes], parameters),
        rows=next(iter(dims.values()))[0],
        tokens=max(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in dims.values()),
        model_flops=model.flops_per_step(dims),
    )
