"""What each resource needs alone, and from that a range for the time of a step.

The kernels of a step run one after another, each bound by arithmetic or by memory; collectives run
beside them, as far as the compiler manages. So a step takes

    low  = max(kernels at their best, network at its best)      all collectives are hidden
    high = kernels at their usual + network at its usual        none are
    kernels = compute + the part of the memory traffic that no arithmetic hides

"Best" and "usual" are fractions of the published peaks, the same for all machines. They are a
choice, not a measurement: large matrix products get within a tenth of a peak, and well-tuned runs
that were published spend about two thirds of it. No plan has met a chip yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from axlearn_core.plan.record import Range, Times, Traffic
from axlearn_core.plan.target import Target


@dataclass(frozen=True)
class Efficiency:
    """Fractions of the peak rates."""

    compute: float
    memory: float
    network: float


BEST: Final = Efficiency(compute=0.90, memory=0.90, network=0.90)
USUAL: Final = Efficiency(compute=0.65, memory=0.70, network=0.70)


def peak_flops(target: Target, dtype: str) -> float | None:
    """Returns what one device can do per second, None if nobody knows."""
    peak = target.chip.peak_flops.get(dtype)
    return peak / _sharing(target) if peak is not None else None


def memory_bandwidth(target: Target) -> float | None:
    """Returns the bytes per second of one device's memory, None if nobody knows."""
    bandwidth = target.chip.memory_bandwidth
    return bandwidth / _sharing(target) if bandwidth is not None else None


def memory_limit(target: Target) -> int | None:
    """Returns the bytes that a program may use on one device, None if nobody knows."""
    limit = target.chip.program_memory or target.chip.memory_bytes
    return limit // _sharing(target) if limit is not None else None


class Speed(NamedTuple):
    """The fields of a plan that say how fast the step is."""

    times: Times
    step_seconds: Range | None
    mfu: Range | None


def speed(
    target: Target,
    *,
    flops: float,
    bytes_accessed: float,
    exposed_bytes: float,
    traffic: Sequence[Traffic],
    model_flops: float | None,
    dtype: str,
) -> Speed:
    """Returns what each resource needs alone, and a range for the step.

    Args:
        target: what the rates are of.
        flops: that a device computes per step.
        bytes_accessed: of its memory.
        exposed_bytes: those of them beside which it computes nothing.
        traffic: all collectives of the step.
        model_flops: that the model needs per step, of all devices; None leaves the MFU open.
        dtype: in which it computes.
    """
    peak = peak_flops(target, dtype)
    bandwidth = memory_bandwidth(target)
    network = [each.seconds for each in traffic]
    known = [seconds for seconds in network if seconds is not None]
    times = Times(
        compute=flops / peak if peak else None,
        memory=bytes_accessed / bandwidth if bandwidth else None,
        network=sum(known) if len(known) == len(network) else None,
    )
    exposed = exposed_bytes / bandwidth if bandwidth else 0.0
    step = _step_range(times, exposed)
    if step is None or peak is None or not model_flops:
        return Speed(times, step, None)
    fastest = model_flops / (peak * target.count)  # seconds, were nothing else to be done
    return Speed(times, step, Range(fastest / step.high, fastest / step.low))


def _step_range(times: Times, exposed: float) -> Range | None:
    compute, network = times.compute, times.network or 0.0
    if compute is None:
        return None
    best, usual = (compute / rates.compute + exposed / rates.memory for rates in (BEST, USUAL))
    return Range(max(best, network / BEST.network), usual + network / USUAL.network)


def _sharing(target: Target) -> int:
    return target.count if target.chip.shared else 1
