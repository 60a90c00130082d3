"""Two plans side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from axlearn_core.cli.plan_report import between, seconds
from axlearn_core.cli.text import table
from axlearn_core.observe.progress import count, size
from axlearn_core.plan.record import Plan

_Row = tuple[str, str, str, str]


def comparison(first: Plan, second: Plan) -> str:
    """Returns what differs between two plans, with the ratio of the second to the first."""
    rows = [row for row in _rows(first, second) if row[1] != row[2]]
    if not rows:
        return "the two plans are the same"
    return table(("", "a", "b", "b / a"), rows)


def _rows(first: Plan, second: Plan) -> Iterator[_Row]:
    texts: dict[str, Callable[[Plan], str]] = {
        "experiment": lambda plan: " ".join((plan.experiment, *plan.overrides)),
        "target": lambda plan: plan.target,
        "method": lambda plan: plan.method,
        "mesh": lambda plan: " x ".join(f"{a} {n}" for a, n in plan.mesh_shape.items()) or "-",
        "fits": lambda plan: {True: "yes", False: "no", None: "unknown"}[plan.memory.fits],
        "what binds": lambda plan: plan.times.binding or "unknown",
    }
    yield from ((name, text(first), text(second), "") for name, text in texts.items())
    numbers: dict[str, tuple[Callable[[Plan], float | None], Callable[[float], str]]] = {
        "parameters of the model": (lambda plan: plan.parameter_count, count),
        "tokens per step": (lambda plan: plan.tokens_per_step, count),
        "memory: parameters": (lambda plan: plan.memory.parameters, size),
        "memory: optimizer": (lambda plan: plan.memory.optimizer, size),
        "memory: other state": (lambda plan: plan.memory.other_state, size),
        "memory: activations": (lambda plan: plan.memory.activations, size),
        "memory: temporary": (lambda plan: plan.memory.temporary, size),
        "memory: peak": (lambda plan: plan.memory.peak, size),
        "memory: limit": (lambda plan: plan.memory.limit, size),
        "FLOPs": (lambda plan: plan.flops, count),
        "memory traffic": (lambda plan: plan.bytes_accessed, size),
        "sent": (lambda plan: sum(each.bytes for each in plan.traffic), size),
        "compute alone": (lambda plan: plan.times.compute, seconds),
        "memory alone": (lambda plan: plan.times.memory, seconds),
        "network alone": (lambda plan: plan.times.network, seconds),
    }
    for name, (value, write) in numbers.items():
        a, b = value(first), value(second)
        yield name, _written(a, write), _written(b, write), f"{b / a:.2f}" if a and b else ""
    yield from _ranges(first, second)


def _ranges(first: Plan, second: Plan) -> Iterator[_Row]:
    ranges = {
        "step": (first.step_seconds, second.step_seconds, seconds),
        "MFU": (first.mfu, second.mfu, "{:.1%}".format),
        "tokens per day": (first.tokens_per_day, second.tokens_per_day, count),
    }
    for name, (a, b, write) in ranges.items():
        ratio = f"{(b.low + b.high) / (a.low + a.high):.2f}" if a and b else ""
        first_text, second_text = (between(x, write) if x else "unknown" for x in (a, b))
        yield name, first_text, second_text, ratio


def _written(value: float | None, write: Callable[[float], str]) -> str:
    return "unknown" if value is None else write(value)
