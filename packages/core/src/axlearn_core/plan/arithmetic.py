"""A plan without compiling: from a trace of the step, sizes, and how each is divided."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jax.sharding import AbstractMesh
from numpy.typing import NDArray

from axlearn_core.parallel import MESH_AXES, Placement
from axlearn_core.parallel.sharding import Rules
from axlearn_core.plan.blueprint import BATCH, OPTIMIZER, PARAMETERS, Argument, Blueprint, draw
from axlearn_core.plan.demand import Demand, demand
from axlearn_core.plan.labels import Division
from axlearn_core.plan.network import network_of
from axlearn_core.plan.record import Memory, PlacedArray, Plan, Traffic
from axlearn_core.plan.roofline import memory_bandwidth, memory_limit, peak_flops, speed
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
    mesh, slow = target.mesh_sizes(cfg.mesh_shape, cfg.slow_mesh_shape)
    abstract = AbstractMesh(tuple(mesh.values()), MESH_AXES)
    program = trainer.program(Placement(abstract, cfg.sharding_rules))
    program.check_batch("input", trainer.input.batch_shape(), accumulation=cfg.accumulation)
    division = division_on(target, mesh, cfg.sharding_rules, cfg.accumulation)
    return plan_of(
        draw(trainer),
        division,
        target,
        slow=slow,
        experiment=experiment,
        overrides=overrides,
    )


def division_on(
    target: Target, sizes: Mapping[str, int], rules: Rules, accumulation: int
) -> Division:
    """Returns how a target divides what is drawn."""
    on_cpu = target.hardware.platform == "cpu"
    return Division(sizes, rules, accumulation, plain_attention=on_cpu)


def plan_of(
    blueprint: Blueprint,
    division: Division,
    target: Target,
    *,
    slow: Mapping[str, int],
    experiment: str,
    overrides: tuple[str, ...],
) -> Plan:
    """Plans what was drawn, divided so, on a target.

    Args:
        blueprint: of the trainer.
        division: over all devices.
        target: that has them.
        slow: which part of each axis lies between network domains; empty for the outermost parts.
        experiment: its name, for people.
        overrides: what was changed in it, for people.
    """
    needs = demand(blueprint.census.body, division)
    rounds = division.accumulation
    memory = memory_of(blueprint, division, needs, limit=memory_limit(target))
    sent = _traffic(needs, division, target, slow)
    flops = needs.flops * rounds
    # The optimizer reads and writes its state and the parameters, and reads the gradients.
    update = 2.0 * (memory.parameters + memory.optimizer) + memory.parameters
    accessed = needs.accessed * rounds + update
    return Plan(
        experiment=experiment,
        overrides=overrides,
        target=target.name,
        method="arithmetic",
        mesh_shape={axis: size for axis, size in division.sizes.items() if size > 1},
        tokens_per_step=blueprint.tokens,
        parameter_count=blueprint.parameter_count,
        model_flops=blueprint.model_flops or 0.0,
        flops=flops,
        bytes_accessed=accessed,
        memory=memory,
        traffic=sent,
        **speed(
            target,
            flops=flops,
            bytes_accessed=accessed,
            exposed_bytes=_exposed(needs, target, blueprint.dtype) * rounds + update,
            traffic=sent,
            model_flops=blueprint.model_flops,
            dtype=blueprint.dtype,
        )._asdict(),
        largest=_largest(blueprint, division),
        notes=(_METHOD, *blueprint.census.notes),
    )


def activation_bytes(blueprint: Blueprint, division: Division) -> int:
    """Returns what the forward pass of a (micro-)batch keeps for the backward pass, on a device."""
    return sum(map(division.bytes, blueprint.census.kept))


def _traffic(
    needs: Demand, division: Division, target: Target, slow: Mapping[str, int]
) -> tuple[Traffic, ...]:
    """Times what is sent on the target's network, positions of the mesh being in its order."""
    network = network_of(target)
    positions = _positions(division.sizes, slow)
    sums: dict[tuple[str, tuple[str, ...]], list[tuple[int, float]]] = {}
    for route, count in needs.routes.items():
        pair = (count * division.accumulation, route.sent)
        sums.setdefault((route.kind, tuple(sorted(route.axes))), []).append(pair)
    found = []
    for (kind, axes), parts in sums.items():
        groups = _groups(positions, division, axes, kind)
        times = sum(count for count, _ in parts)
        total = sum(count * sent for count, sent in parts)
        where = "slow" if network.spans_domains(groups) else "fast"
        seconds = network.seconds(kind, groups, total)
        found.append(Traffic(kind, axes, times, round(total), where, seconds))
    return tuple(sorted(found, key=lambda each: (-(each.seconds or 0), -each.bytes)))


def _positions(sizes: Mapping[str, int], slow: Mapping[str, int]) -> NDArray[np.int64]:
    """Arranges devices as `make_mesh` does: of each axis the slow part is before the fast one."""
    outer = [slow.get(axis, 1) for axis in sizes]
    inner = [size // part for size, part in zip(sizes.values(), outer, strict=True)]
    blocks = np.arange(math.prod(sizes.values())).reshape(*outer, *inner)
    pairs = [axis + part for axis in range(len(inner)) for part in (0, len(inner))]
    return blocks.transpose(pairs).reshape(tuple(sizes.values()))


def _groups(
    positions: NDArray[np.int64], division: Division, axes: tuple[str, ...], kind: str
) -> NDArray[np.int64]:
    """Returns the groups of positions along mesh axes, [groups, devices]; a ring's as pairs."""
    names = list(division.sizes)
    last = [names.index(axis) for axis in axes]
    first = [place for place in range(len(names)) if place not in last]
    groups = positions.transpose(first + last).reshape(-1, division.ways(axes))
    if kind != "collective-permute":
        return groups
    return np.stack([groups, np.roll(groups, -1, axis=1)], axis=-1).reshape(-1, 2)


def _exposed(needs: Demand, target: Target, dtype: str) -> float:
    """Returns the bytes beside which nothing is computed, as of a compiled program's kernels."""
    peak, bandwidth = peak_flops(target, dtype), memory_bandwidth(target)
    if not peak or not bandwidth:
        return 0.0
    intensity = peak / bandwidth
    return sum(
        count * max(0.0, kernel.bytes - kernel.flops / intensity)
        for kernel, count in needs.kernels.items()
    )


def memory_of(
    blueprint: Blueprint, division: Division, needs: Demand, *, limit: int | None = None
) -> Memory:
    """Returns what one device holds at the peak of a step with such a demand."""
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
    activations = activation_bytes(blueprint, division)
    return Memory(
        parameters=held[PARAMETERS],
        optimizer=held[OPTIMIZER],
        other_state=other,
        activations=activations,
        temporary=needs.peak - activations + sums,
        limit=limit,
    )


def _largest(blueprint: Blueprint, division: Division) -> tuple[PlacedArray, ...]:
    def placed(argument: Argument) -> PlacedArray:
        assigned = division.assigned(argument.array.factors)
        parts = (" x ".join(assigned[name]) if name else "" for name in argument.axes)
        return PlacedArray(
            path=argument.path,
            shape=argument.array.shape,
            dtype=argument.dtype,
            spec=f"({', '.join(part or '-' for part in parts)})",
            bytes_per_device=division.bytes(argument.array),
        )

    arrays = [placed(argument) for argument in blueprint.arguments if argument.part != BATCH]
    return tuple(sorted(arrays, key=lambda array: -array.bytes_per_device)[:10])
