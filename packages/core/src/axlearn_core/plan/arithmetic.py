"""A plan without compiling: from a trace of the step, sizes, and how each is divided."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh

from axlearn_core.parallel import MESH_AXES, Placement, infer_mesh_shape
from axlearn_core.plan.blueprint import Blueprint, draw
from axlearn_core.plan.demand import Demand, demand
from axlearn_core.plan.labels import Division
from axlearn_core.training.program import Program
from axlearn_core.training.trainer import Trainer


def division_of(trainer: Trainer, count: int) -> Division:
    cfg = trainer.config
    mesh = infer_mesh_shape(cfg.mesh_shape, count)
    return Division(mesh, cfg.sharding_rules, cfg.accumulation)


def program_of(trainer: Trainer, mesh: dict[str, int]) -> Program:
    abstract = AbstractMesh(tuple(mesh.values()), MESH_AXES)
    program = trainer.program(Placement(abstract, trainer.config.sharding_rules))
    program.check_batch(
        "input", trainer.input.batch_shape(), accumulation=trainer.config.accumulation
    )
    return program


def bytes_of(tree: Any) -> int:
    """Returns the bytes on one device of placed shapes."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * np.dtype(x.dtype).itemsize
        for x in jax.tree.leaves(tree)
    )


def needs(trainer: Trainer, blueprint: Blueprint, count: int) -> tuple[int, int, Demand]:
    division = division_of(trainer, count)
    program = program_of(trainer, dict(division.sizes))
    batch = program.batch_structs(trainer.input.batch_shape())
    state = bytes_of(program.state) + bytes_of(batch)
    found = demand(blueprint.census.body, division)
    gradients = bytes_of(program.state.params) if division.accumulation > 1 else 0
    return state, found.peak + gradients, found


__all__ = ["draw", "needs"]
