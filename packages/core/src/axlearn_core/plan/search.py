"""Looks for the best mesh, micro-batches and recomputation for an experiment on a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from axlearn_core.parallel import infer_mesh_shape
from axlearn_core.plan.arithmetic import division_on, plan_of
from axlearn_core.plan.blueprint import Blueprint, draw
from axlearn_core.plan.candidates import Candidate, Recompute, meshes, recomputes, slow_axes
from axlearn_core.plan.labels import Division
from axlearn_core.plan.record import Memory, Plan
from axlearn_core.plan.target import Target
from axlearn_core.plugins import Registry
from axlearn_core.training.trainer import Trainer

Build = Callable[[Sequence[str]], Trainer]
"""Builds the experiment's trainer with overrides added to those that were given."""


class Compile(Protocol):
    """Makes a plan of a trainer by compiling its step for a target."""

    def __call__(self, trainer: Trainer, target: Target, overrides: tuple[str, ...], /) -> Plan: ...


@dataclass(frozen=True)
class Found:
    """A candidate and its plan."""

    candidate: Candidate
    plan: Plan

    @property
    def seconds(self) -> float:
        """The middle of the step's range; without any known rate, operations stand for it."""
        step = self.plan.step_seconds
        return self.plan.flops if step is None else (step.low + step.high) / 2


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        front: those that no other beats in both step time and memory, the fastest first.
        tried: how many were planned by arithmetic.
        fitting: how many of them fit.
        least: the one with the least memory, which says by how much nothing fits.
    """

    front: tuple[Found, ...]
    tried: int
    fitting: int
    least: Found | None


def search(
    build: Build,
    target: Target,
    registry: Registry,
    *,
    experiment: str,
    overrides: tuple[str, ...] = (),
    compile: Compile | None = None,
    count: int = 4,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Plans every candidate by arithmetic and compiles the promising ones.

    For a mesh and what is recomputed, the fewest micro-batches that fit are taken: more of them
    gather parameters more often, and gain nothing but memory. The order of candidates is fixed, and
    with it the outcome.

    Args:
        build: makes trainers.
        target: to plan for.
        registry: knows policies of recomputation by name.
        experiment: its name, for the plans.
        overrides: that `build` has already.
        compile: confirms a plan; None leaves it at arithmetic.
        count: how many plans to compile.
        say: gets lines of progress.
    """
    base = build(())
    policies = recomputes(base.config, draw(base).census.names, registry)
    found: list[Found] = []
    for policy in policies:
        trainer = build(policy.overrides)
        blueprint = draw(trainer)
        planned = list(_planned(trainer, blueprint, policy, target, experiment, overrides))
        say(f"recomputing {policy.name}: {len(planned)} plans by arithmetic")
        found += planned
    fitting = [one for one in found if one.plan.memory.fits is not False]
    front = pareto(fitting)
    if compile is not None:
        front = pareto([*_compiled(front, build, target, overrides, compile, count, say)])
    least = min(found, key=lambda one: one.plan.memory.peak, default=None)
    return Outcome(tuple(front), len(found), len(fitting), least)


def pareto(found: Sequence[Found]) -> list[Found]:
    """Returns those that no other beats in step time and memory, the fastest first."""
    front: list[Found] = []
    for one in sorted(found, key=lambda one: (one.seconds, one.plan.memory.peak)):
        if not front or one.plan.memory.peak < front[-1].plan.memory.peak:
            front.append(one)
    return front


def _planned(
    trainer: Trainer,
    blueprint: Blueprint,
    policy: Recompute,
    target: Target,
    experiment: str,
    overrides: tuple[str, ...],
) -> Iterator[Found]:
    cfg = trainer.config
    several = target.count // target.domain if "slow_mesh_shape" in dict(cfg.items()) else 1
    for mesh in meshes(trainer, target.count):
        sizes, slow = infer_mesh_shape(mesh, target.count), slow_axes(mesh, several)
        last: Found | None = None
        for accumulation in _accumulations(blueprint.rows):
            division = division_on(target, sizes, cfg.sharding_rules, accumulation)
            if not divides(blueprint, division):
                break
            candidate = Candidate(mesh, slow, accumulation, policy)
            words = (*overrides, *candidate.overrides)
            plan = plan_of(
                blueprint, division, target, slow=slow, experiment=experiment, overrides=words
            )
            last = Found(candidate, plan)
            if plan.memory.fits is not False or _state_is_too_large(plan.memory):
                break
        if last is not None:
            yield last


def _state_is_too_large(memory: Memory) -> bool:
    return memory.limit is not None and memory.peak - memory.temporary > memory.limit


def divides(blueprint: Blueprint, division: Division) -> bool:
    """Returns whether a mesh divides all parameters and the batch, and each of its axes is used."""
    used: set[str] = set()
    for argument in blueprint.arguments:
        if not division.divides(argument.array):
            return False
        used.update(division.lies(argument.array))
    return used >= {axis for axis, size in division.sizes.items() if size > 1}


def _accumulations(rows: int) -> list[int]:
    return [2**power for power in range(rows.bit_length()) if rows % 2**power == 0]


def _compiled(
    front: Sequence[Found],
    build: Build,
    target: Target,
    overrides: tuple[str, ...],
    compile: Compile,
    count: int,
    say: Callable[[str], None],
) -> Iterator[Found]:
    for number, one in enumerate(front):
        if number >= count:
            yield one
            continue
        added = one.candidate.overrides
        say(f"compiling {number + 1} of {min(count, len(front))}: {' '.join(added)}")
        plan = compile(build(added), target, (*overrides, *added))
        if plan.memory.fits is False:
            say("  does not fit after all")
        else:
            yield Found(one.candidate, plan)
