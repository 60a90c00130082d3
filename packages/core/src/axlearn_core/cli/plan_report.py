"""A plan in words, for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from axlearn_core.cli.text import counted, table
from axlearn_core.observe.progress import count, size
from axlearn_core.plan.record import Memory, Plan, Range

_BAR = 60  # characters for all of a device's memory
_PARTS = (
    ("parameters", "#"),
    ("optimizer", "="),
    ("other state", "+"),
    ("activations", "-"),
    ("temporary", "~"),
)


def report(plan: Plan) -> str:
    """Returns a plan as text."""
    sections = (_head, _memory, _work, _time, _arrays, _notes)
    return "\n\n".join("\n".join(lines) for section in sections if (lines := list(section(plan))))


def _head(plan: Plan) -> Iterator[str]:
    how = "by arithmetic, not compiled"
    if plan.method == "compiled":
        how = f"compiled in {seconds(plan.compile_seconds or 0.0)}"
    mesh = " x ".join(f"{axis} {ways}" for axis, ways in plan.mesh_shape.items()) or "one device"
    yield f"plan        {' '.join((plan.experiment, *plan.overrides))}"
    yield f"target      {plan.target}, mesh {mesh}, {how}"
    yield (
        f"model       {count(plan.parameter_count)} parameters, "
        f"{count(plan.tokens_per_step)} tokens per step"
    )


def _memory(plan: Plan) -> Iterator[str]:
    memory = plan.memory
    yield "memory of each device"
    for name, mark in _PARTS:
        yield f"  {mark} {name:<12} {size(part_bytes(memory, name)):>10}"
    yield f"    {'peak':<12} {size(memory.peak):>10}  {verdict(memory)}"
    yield f"  [{_bar(memory)}]"
    if memory.fits is False:
        yield from (f"  try: {advice}" for advice in advices(plan))


def part_bytes(memory: Memory, name: str) -> int:
    """Returns one part of the memory, by its name in the report."""
    value: int = getattr(memory, name.replace(" ", "_"))
    return value


def verdict(memory: Memory) -> str:
    """Returns whether it fits, and by how much."""
    if memory.limit is None:
        return "of a memory of unknown size"
    rest = memory.limit - memory.peak
    if rest < 0:
        return f"of {size(memory.limit)}: does not fit, {size(-rest)} too much"
    return f"of {size(memory.limit)}: fits, {size(rest)} ({rest / memory.limit:.0%}) to spare"


def _bar(memory: Memory) -> str:
    """Draws the parts over the whole memory; what does not fit goes on after a '|'."""
    whole = memory.limit or memory.peak or 1
    ends, drawn = 0, ""
    for name, mark in _PARTS:
        ends += part_bytes(memory, name)
        drawn += mark * (min(round(ends / whole * _BAR), 2 * _BAR) - len(drawn))
    return drawn.ljust(_BAR, ".") if len(drawn) <= _BAR else f"{drawn[:_BAR]}|{drawn[_BAR:]}"


def advices(plan: Plan) -> list[str]:
    """Returns what could make it fit, what helps most first."""
    memory = plan.memory
    computed = memory.activations + memory.temporary
    activations = (
        "accumulation=2, or a smaller input.batch_size: activations are of one micro-batch",
        "a remat policy that saves less, such as model.**.remat.save=block_hidden",
    )
    shards: tuple[str, ...] = (
        "mesh_shape={fsdp: -1}: parameters and optimizer state split over all devices",
        "more devices, over which they are split",
    )
    if set(plan.mesh_shape) == {"fsdp"}:  # they are
        shards = shards[1:]
    first, second = (activations, shards) if computed > memory.state else (shards, activations)
    search = f"axl plan {plan.experiment} --search --hardware {plan.target}"
    return [*first, second[0], f"{search}: what fits, and how fast it is"]


def _work(plan: Plan) -> Iterator[str]:
    yield "work of each device, per step"
    times = plan.times
    sent = sum(each.bytes for each in plan.traffic)
    resources = [
        ("matrix products", f"{count(plan.flops)}FLOP", _alone(times.compute)),
        ("memory traffic", size(plan.bytes_accessed), _alone(times.memory)),
        ("sent to others", size(sent), _alone(times.network)),
    ]
    yield from (f"  {name:<16} {value:>10}  {alone}" for name, value, alone in resources)
    if plan.traffic:
        rows = [
            (
                each.kind,
                " x ".join(each.axes),
                each.network,
                str(each.count),
                size(each.bytes),
                seconds(each.seconds),
            )
            for each in plan.traffic
        ]
        header = ("collective", "over", "network", "times", "sent", "alone")
        yield from (f"    {line}" for line in table(header, rows).splitlines())
    if times.binding:
        yield f"  what binds: {times.binding}"


def _alone(value: float | None) -> str:
    return f"{seconds(value)} alone" if value is not None else "at an unknown rate"


def _time(plan: Plan) -> Iterator[str]:
    if plan.step_seconds is None:
        yield "step        unknown: no rate of arithmetic is known of this chip"
        return
    yield f"step        {between(plan.step_seconds, seconds)}"
    if plan.mfu:
        yield f"MFU         {between(plan.mfu, '{:.1%}'.format)}"
    if plan.tokens_per_day:
        yield f"tokens      {between(plan.tokens_per_day, count)} per day"


def between(values: Range, write: Callable[[float], str]) -> str:
    """Returns "1.2 s to 1.9 s"."""
    return f"{write(values.low)} to {write(values.high)}"


def seconds(value: float | None) -> str:
    """Writes a time briefly: 1.24 s, 85.1 ms."""
    if value is None:
        return "unknown"
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if value * scale >= 1 or value == 0:
            return f"{value * scale:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def _arrays(plan: Plan) -> Iterator[str]:
    yield f"the {counted(len(plan.largest), 'largest array')}, and what a device has of them"
    rows = [
        (
            size(each.bytes_per_device),
            each.path,
            f"{each.dtype}{list(each.shape)}".replace(" ", ""),
            each.spec,
        )
        for each in plan.largest
    ]
    header = ("bytes", "array", "whole", "split")
    yield from (f"  {line}" for line in table(header, rows).splitlines())


def _notes(plan: Plan) -> Iterator[str]:
    yield from (f"note: {note}" for note in plan.notes)
