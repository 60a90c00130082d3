"""What one device has to hold, compute and send in a step, from a census and a mesh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from axlearn_core.plan.census import Body, Event, KeysOrValues, Product
from axlearn_core.plan.labels import Array, Division


class Route(NamedTuple):
    """A kind of collective, and the mesh axes that it spans."""

    kind: str
    axes: tuple[str, ...]


@dataclass
class Demand:
    """Of one device.

    Attributes:
        flops: operations of matrix products.
        accessed: bytes that these read and write, and that other results are.
        peak: bytes of what is alive at one time, besides the arguments.
        counts: collectives by route.
        sent: bytes that they send, by route.
    """

    flops: float = 0.0
    accessed: float = 0.0
    peak: int = 0
    counts: Counter[Route] = field(default_factory=Counter)
    sent: Counter[Route] = field(default_factory=Counter)

    def add(self, other: Demand, times: int) -> None:
        self.flops += other.flops * times
        self.accessed += other.accessed * times
        for route, count in other.counts.items():
            self.counts[route] += count * times
            self.sent[route] += other.sent[route] * times

    def send(self, kind: str, axes: Iterable[str], size: float) -> None:
        route = Route(kind, tuple(axes))
        self.counts[route] += 1
        self.sent[route] += size


def demand(body: Body, division: Division) -> Demand:
    """Walks through a body, of which each device does its part.

    Matrix products are divided as their dimensions are. Where an axis splits both the batch and a
    parameter (FSDP), the parameter is gathered, once in each loop's body; its gradient is summed
    over the batch's axes and scattered. A sum over a dimension that is split otherwise (tensor
    parallelism) is an all-reduce of its result. Rings: of n devices each sends (n - 1) / n of what
    an all-gather makes or a reduce-scatter reads, and twice that in an all-reduce.
    """
    total = Demand()
    gathered: set[tuple[str, tuple[str, ...]]] = set()
    alive = 0
    for step in body.steps:
        inside = demand(step.inner, division) if step.inner else Demand()
        total.add(inside, step.trips)
        made = sum(division.bytes(array) for array in step.made)
        transient = sum(_event(event, division, total, gathered) for event in step.events)
        if not any(isinstance(event, Product) and event.flops for event in step.events):
            total.accessed += 2 * made
        alive += made
        total.peak = max(total.peak, alive + max(inside.peak, transient))
        alive -= sum(division.bytes(array) for array in step.freed)
    return total


def _event(
    event: Event,
    division: Division,
    total: Demand,
    gathered: set[tuple[str, tuple[str, ...]]],
) -> int:
    """Adds what an event needs; returns the bytes that exist during it alone."""
    if isinstance(event, KeysOrValues):
        _pass_around(event.array, division, total)
        return 0
    experts = event.flops > 0 and any("expert" in o.array.names for o in event.operands)
    axes = _axes_of_product(event, division)
    ways = division.ways([a for some in axes.values() for a in some])
    total.flops += event.flops / ways / division.accumulation
    transient = 0
    for operand in event.operands:
        missing = _missing(operand.array, division, axes) if operand.parameter else ()
        size = division.bytes(operand.array, without=missing)
        total.accessed += size if event.flops else 0
        if missing:
            transient += size
            if (operand.parameter, missing) not in gathered:
                gathered.add((operand.parameter or "", missing))
                n = division.ways(missing)
                total.send("all-gather", missing, size * (n - 1) / n)
    total.accessed += division.bytes(event.out) if event.flops else 0
    _reduce(event, division, axes, total)
    if experts:
        _exchange_rows(event, division, total)
    return transient


def _axes_of_product(event: Product, division: Division) -> dict[str, tuple[str, ...]]:
    """Returns which mesh axes each logical axis of a product is divided over; the batch's first."""
    dims = [d for d in (*event.out.dims, *event.summed) if d.names]
    first = [d for d in dims if d.names[0][0] == "batch"]
    second = [d for d in dims if d.names[0][0] == "seq"]
    rest = [d for d in dims if d.names[0][0] not in ("batch", "seq")]
    return division.assigned(tuple(first + second + rest))


def _missing(
    array: Array, division: Division, axes: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Returns the mesh axes that split a parameter where it lies and not in a product.

    Those of experts are not gathered: their rows come to them.
    """
    missing = []
    for name, lies in division.assigned(array.dims).items():
        if name != "expert":
            missing += [axis for axis in lies if axis not in axes.get(name, ())]
    return tuple(missing)


def _reduce(
    event: Product, division: Division, axes: dict[str, tuple[str, ...]], total: Demand
) -> None:
    out = event.out.names
    summed: list[str] = []
    for name in dict.fromkeys(name for dim in event.summed for name, _ in dim.names):
        if name not in out:
            summed += axes.get(name, ())
    if not summed:
        return
    lies = [a for some in division.assigned(event.out.dims).values() for a in some]
    scattered = [a for a in summed if a in lies and "batch" not in out]
    reduced = [a for a in summed if a not in scattered]
    if scattered:
        n = division.ways(scattered)
        whole = division.bytes(event.out, without=scattered)
        total.send("reduce-scatter", scattered, whole * (n - 1) / n)
    if reduced:
        n = division.ways(reduced)
        total.send("all-reduce", reduced, 2 * division.bytes(event.out) * (n - 1) / n)


def _pass_around(array: Array, division: Division, total: Demand) -> None:
    """A ring over the sequence passes keys and values on in the forward pass, and twice more, with
    their gradients, in the backward pass."""
    axes = division.axes_of("seq")
    if axes:
        n = division.ways(axes)
        total.send("collective-permute", axes, 3 * division.bytes(array) * (n - 1))


def _exchange_rows(event: Product, division: Division, total: Demand) -> None:
    """Rows come to the devices of their experts, or go back: the side that is as wide as the model.

    Of products with experts' weights these are rows of "embed", read or made.
    """
    axes = division.axes_of("expert")
    if not axes:
        return
    n = division.ways(axes)
    rows = next((o.array for o in event.operands if "expert" not in o.array.names), None)
    weights = next((o.array for o in event.operands if "expert" in o.array.names), None)
    if rows is None or weights is None:
        return
    reads = any("embed" in dict(d.names) for d in event.summed)
    side = rows if reads else event.out
    total.send("all-to-all", axes, division.bytes(side) * (n - 1) / n)
