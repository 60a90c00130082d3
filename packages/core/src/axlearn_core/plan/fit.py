"""Finds the smallest number of devices on which an experiment fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from axlearn_core.config import ConfigError
from axlearn_core.hardware import HardwareError
from axlearn_core.plan.record import Plan
from axlearn_core.plan.target import Target, parse_target
from axlearn_core.plugins import Registry

_MOST = 32_768


@dataclass(frozen=True)
class Tried:
    """One number of devices: a plan, or why there is none."""

    target: Target
    plan: Plan | None
    problem: str | None = None


@dataclass(frozen=True)
class Fit:
    """What was found.

    Attributes:
        smallest: the plan that fits on the fewest devices, None if none does.
        tried: all numbers up to that, ascending.
    """

    smallest: Plan | None
    tried: tuple[Tried, ...]


def fit(targets: list[Target], plan: Callable[[Target], Plan]) -> Fit:
    """Plans for more and more devices until the step fits.

    All numbers are tried in turn: one more than does not fit may not divide the batch.

    Args:
        targets: of one chip, ascending.
        plan: makes a plan for one of them, such as by arithmetic.
    """
    tried: list[Tried] = []
    for target in targets:
        try:
            made = plan(target)
        except ConfigError as error:
            tried.append(Tried(target, None, str(error)))
            continue
        tried.append(Tried(target, made))
        if made.memory.fits is not False:
            return Fit(made, tuple(tried))
    return Fit(None, tuple(tried))


def matching_targets(pattern: str, registry: Registry) -> list[Target]:
    """Returns the targets that "gpu-h100-*" names: the sizes that one can have, ascending.

    These are the chip's topologies, or where its package lists none (GPUs), the powers of two.

    Raises:
        HardwareError: for another kind of pattern, or a chip that there is not.
    """
    if not pattern.endswith("-*"):
        raise HardwareError(
            f"--fit {pattern} should be a chip and any number of it, such as 'gpu-h100-*'"
        )
    prefix = pattern.removesuffix("*")
    one = parse_target(f"{prefix}1", registry)
    listed = {t.devices for t in one.hardware.topologies() if t.chip == one.chip.name}
    counts = sorted(listed) or [2**power for power in range(_MOST.bit_length())]
    return [replace(one, count=count) for count in counts]
