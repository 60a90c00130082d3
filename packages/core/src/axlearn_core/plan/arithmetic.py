"""A plan without compiling: from a trace of the step, sizes, and how each is divided."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jax.sharding import AbstractMesh

from axlearn_core.parallel import MESH_AXES, Placement, infer_mesh_shape, partition_spec
from axlearn_core.plan.blueprint import BATCH, OPTIMIZER, PARAMETERS, Argument, Blueprint, draw
from axlearn_core.plan.demand import Demand, demand
from axlearn_core.plan.labels import Division
from axlearn_core.plan.record import Memory, PlacedArray, Plan, Range, Times, Traffic
from axlearn_core.plan.target import Target
from axlearn_core.training.trainer import Trainer

_METHOD = (
    "by arithmetic on the traced step; nothing was compiled. Parameters, optimizer state and "
    "matrix products are exact; what else lives at one time, and what is sent, follow rules"
)


def plan_by_arithmetic(
    trainer: Trainer, target: Target, *, experiment: str, overrides: tuple[str, ...]
) -> Plan:
    """Plans a trainer's step on a target of any size, in seconds.

    Raises:
        ConfigError: if the mesh does not fit the devices, the parameters or the batch.
    """
    cfg = trainer.config
    mesh = infer_mesh_shape(cfg.mesh_shape, target.count)
    abstract = AbstractMesh(tuple(mesh.values()), MESH_AXES)
    program = trainer.program(Placement(abstract, cfg.sharding_rules))
    program.check_batch("input", trainer.input.batch_shape(), accumulation=cfg.accumulation)
    division = Division(mesh, cfg.sharding_rules, cfg.accumulation)
    return plan_of(draw(trainer), division, target, experiment=experiment, overrides=overrides)


def plan_of(
    blueprint: Blueprint,
    division: Division,
    target: Target,
    *,
    experiment: str,
    overrides: tuple[str, ...],
) -> Plan:
    """Plans what was drawn, divided so, on a target."""
    needs = demand(blueprint.census.body, division)
    rounds = division.accumulation
    memory = _memory(blueprint, division, needs, target)
    traffic = tuple(
        Traffic(route.kind, route.axes, needs.counts[route] * rounds, int(sent * rounds), *_)
        for route, sent in needs.sent.items()
        for _ in [("fast", None)]
    )
    return Plan(
        experiment=experiment,
        overrides=overrides,
        target=target.name,
        method="arithmetic",
        mesh_shape={axis: size for axis, size in division.sizes.items() if size > 1},
        tokens_per_step=blueprint.tokens,
        parameter_count=sum(
            math.prod(a.array.shape) for a in blueprint.arguments if a.part == PARAMETERS
        ),
        model_flops=blueprint.model_flops or 0.0,
        flops=needs.flops * rounds,
        bytes_accessed=needs.accessed * rounds + 2 * (memory.parameters + memory.optimizer),
        memory=memory,
        traffic=traffic,
        times=Times(None, None, None),
        step_seconds=None,
        mfu=None,
        largest=_largest(blueprint, division),
        notes=(_METHOD, *blueprint.census.notes),
    )


def _memory(
    blueprint: Blueprint, division: Division, needs: Demand, target: Target
) -> Memory:
    held = {PARAMETERS: 0, OPTIMIZER: 0}
    other = 0
    for argument in blueprint.arguments:
        size = division.bytes(argument.array)
        if argument.part == BATCH:
            size *= division.accumulation
        if argument.part in held:
            held[argument.part] += size
        else:
            other += size
    # Micro-batches add their gradients to those of all before them.
    sums = held[PARAMETERS] if division.accumulation > 1 else 0
    return Memory(
        parameters=held[PARAMETERS],
        optimizer=held[OPTIMIZER],
        other_state=other,
        temporary=needs.peak + sums,
        limit=target.chip.memory_bytes,
    )


def _largest(blueprint: Blueprint, division: Division) -> tuple[PlacedArray, ...]:
    def placed(argument: Argument) -> PlacedArray:
        parts = partition_spec(argument.axes, division.rules)
        return PlacedArray(
            path=argument.path,
            shape=argument.array.shape,
            dtype=argument.dtype,
            spec=f"({', '.join(map(_part, parts))})",
            bytes_per_device=division.bytes(argument.array),
        )

    arrays = [placed(argument) for argument in blueprint.arguments if argument.part != BATCH]
    return tuple(sorted(arrays, key=lambda array: -array.bytes_per_device)[:10])


def _part(axes: str | tuple[str, ...] | None) -> str:
    return axes if isinstance(axes, str) else "None" if axes is None else f"({', '.join(axes)})"


__all__ = ["Mapping", "Range", "plan_by_arithmetic", "plan_of"]
