"""A plan by the best means that there is here: the compiler, or else arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from axlearn_core.plan.compiling import DoesNotFitError, plan_by_compiling
from axlearn_core.plan.record import Plan
from axlearn_core.plan.target import Target

if TYPE_CHECKING:
    from axlearn_core.training.trainer import Trainer


def make_plan(
    trainer: Trainer, target: Target, *, experiment: str, overrides: tuple[str, ...] = ()
) -> Plan:
    """Plans an experiment on a target.

    Where nothing can compile for the target, or the compiler refuses because memory is short, the
    plan is arithmetic, and its notes say why; of the latter it has the compiler's memory figure.

    Args:
        trainer: with the mesh for that many devices.
        target: from `Target.with_devices`.
        experiment: its name, for people.
        overrides: what was changed in it, for people.

    Raises:
        ConfigError: if the experiment does not fit the devices.
    """
    if target.devices is None:
        return _by_arithmetic(
            trainer, target, experiment, overrides, f"not compiled: {target.reason}"
        )
    try:
        return plan_by_compiling(trainer, target, experiment=experiment, overrides=overrides)
    except DoesNotFitError as refused:
        why = f"the compiler refuses: memory is its figure, all else arithmetic. {refused.reason}"
        plan = _by_arithmetic(trainer, target, experiment, overrides, why)
        return replace(plan, memory=refused.memory.with_activations(plan.memory.activations))


def _by_arithmetic(
    trainer: Trainer, target: Target, experiment: str, overrides: tuple[str, ...], why: str
) -> Plan:
    from axlearn_core.plan.arithmetic import plan_by_arithmetic

    plan = plan_by_arithmetic(trainer, target, experiment=experiment, overrides=overrides)
    return replace(plan, notes=(why, *plan.notes))
