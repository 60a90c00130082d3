"""Finds the smallest number of devices on which an experiment fits."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

from axlearn_core.config import ConfigError, near_names
from axlearn_core.hardware import HardwareError, machine_name
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
        HardwareError: for a pattern that is not of one chip and any number, or without any match.
    """
    if not pattern.endswith("-*"):
        raise HardwareError(
            f"--fit {pattern} should be a chip and any number of it, such as 'gpu-h100-*'"
        )
    prefix = pattern.removesuffix("*")
    one = parse_target(f"{prefix}1", registry)
    listed = {t.devices for t in one.hardware.topologies() if t.chip == one.chip.name}
    counts = sorted(listed) or [2**power for power in range(_MOST.bit_length())]
    names = {machine_name(one.hardware.platform, one.chip.name, n): n for n in counts}
    found = [parse_target(name, registry) for name in names if fnmatch.fnmatch(name, pattern)]
    if not found:
        raise HardwareError(f"no size of {prefix}N matches.{near_names(pattern, names)}")
    return found


def advice(tried: tuple[Tried, ...]) -> str:
    """Returns what stands in the way where nothing fits, and what to change."""
    planned = [one for one in tried if one.plan is not None]
    if not planned:
        return f"no number of devices can be used: {tried[-1].problem}" if tried else ""
    last = planned[-1].plan
    assert last is not None
    memory = last.memory
    state = memory.parameters + memory.optimizer
    over = memory.peak - (memory.limit or 0)
    if state > memory.temporary:
        change = (
            "parameters and optimizer state take most: split them over fsdp or model "
            "(mesh_shape), or use an optimizer with less state"
        )
    else:
        change = (
            "activations take most: keep fewer (remat), use micro-batches (accumulation), or fewer "
            "rows; `--search` tries these"
        )
    return f"on {last.target} it needs {over / 2**30:.1f} GiB more than there are; {change}"
