"""What one device has to hold, compute and send in a step, from a census and a mesh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from axlearn_core.plan.census import Body, Step
from axlearn_core.plan.labels import Array, Division
from axlearn_core.plan.products import Event, Lookup, Product


class Route(NamedTuple):
    """A kind of collective, the mesh axes that it spans, and the bytes that a device sends."""

    kind: str
    axes: tuple[str, ...]
    sent: float


class Kernel(NamedTuple):
    """Something that runs by itself: its operations, and the bytes that it reads and writes."""

    flops: float
    bytes: float


@dataclass
class Demand:
    """Of one device.

    Attributes:
        peak: bytes of what is alive at one time, besides the arguments.
        kernels: what is computed, and how often.
        routes: what is sent, and how often.
        after: what is sent once after this body's loop.
        before: bytes of parameters to gather before this body's loop, by path and axes.
    """

    peak: int = 0
    kernels: Counter[Kernel] = field(default_factory=Counter)
    routes: Counter[Route] = field(default_factory=Counter)
    after: Counter[Route] = field(default_factory=Counter)
    before: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)

    @property
    def flops(self) -> float:
        return sum(kernel.flops * count for kernel, count in self.kernels.items())

    @property
    def accessed(self) -> float:
        return sum(kernel.bytes * count for kernel, count in self.kernels.items())

    def add(self, other: Demand, times: int) -> None:
        for kernel, count in other.kernels.items():
            self.kernels[kernel] += count * times
        for route, count in other.routes.items():
            self.routes[route] += count * times


def demand(body: Body, division: Division) -> Demand:
    """Walks through a program, of which each device does its part.

    Matrix products are divided as their dimensions are. Where an axis splits both the batch and a
    parameter (FSDP), the parameter is gathered, once in each loop's body, or before the loop if it
    is the same in all rounds; its gradient is summed over the batch's axes and scattered. A sum
    over a dimension that is split otherwise (tensor parallelism) is an all-reduce of its result;
    what a loop only adds up is reduced once after it. Rings: of n devices each sends (n - 1) / n of
    what an all-gather makes or a reduce-scatter reads, and twice that in an all-reduce.
    """
    return _Walk(division, Step()).run(body)


class _Walk:
    """Walks through one body."""

    def __init__(self, division: Division, loop: Step):
        self._division = division
        self._loop = loop  # that has the body; none of the whole program
        self._gathered: set[tuple[str, tuple[str, ...]]] = set()
        self._total = Demand()

    def run(self, body: Body) -> Demand:
        total, alive = self._total, 0
        size = self._division.bytes
        for step in body.steps:
            inside = self._inside(step)
            made = sum(map(size, step.made))
            transient = sum(self._event(event) for event in step.events)
            if (
                made
                and not step.inner
                and not any(isinstance(event, Product) and event.flops for event in step.events)
            ):
                total.kernels[Kernel(0.0, 2.0 * made)] += 1
            alive += made
            total.peak = max(total.peak, alive + max(inside, transient))
            alive -= sum(map(size, step.freed))
        return total

    def _inside(self, step: Step) -> int:
        """Adds a loop; returns the bytes that exist within it."""
        if step.inner is None:
            return 0
        inner = _Walk(self._division, step).run(step.inner)
        self._total.add(inner, step.trips)
        self._total.routes.update(inner.after)
        for (parameter, axes), size in inner.before.items():
            self._gather(parameter, axes, size)
        return inner.peak + sum(inner.before.values())

    def _event(self, event: Event) -> int:
        """Adds what an event needs; returns the bytes that exist during it alone."""
        if isinstance(event, Product):
            return self._product(event)
        if isinstance(event, Lookup):
            self._look_up(event)
        else:
            self._pass_around(event.array)
        return 0

    def _product(self, event: Product) -> int:
        division = self._division
        axes = _axes_of_product(event, division)
        transient, accessed = 0, division.bytes(event.out)
        for operand in event.operands:
            missing = _missing(operand.array, division, axes) if operand.parameter else ()
            size = division.bytes(operand.array, without=missing)
            accessed += size
            if missing and operand.parameter:
                transient += self._gather(operand.parameter, missing, size)
        if event.flops:
            ways = division.ways([a for some in axes.values() for a in some])
            flops = event.flops / ways / division.accumulation
            self._total.kernels[Kernel(flops, float(accessed))] += 1
            if any("expert" in operand.array.names for operand in event.operands):
                self._exchange_rows(event)
        return transient + self._reduce(event, axes)

    def _gather(self, parameter: str, axes: tuple[str, ...], size: int) -> int:
        """Gathers a parameter, unless that is done; returns the bytes that it takes here."""
        if parameter in self._loop.invariant:
            self._total.before[parameter, axes] = size
            return 0
        if (parameter, axes) not in self._gathered:
            self._gathered.add((parameter, axes))
            n = self._division.ways(axes)
            self._send("all-gather", axes, size * (n - 1) / n)
        return size

    def _reduce(self, event: Product, axes: dict[str, tuple[str, ...]]) -> int:
        """Sums a result over devices; returns the bytes that it takes before it is scattered."""
        division, out = self._division, event.out.names
        summed: list[str] = []
        for name in dict.fromkeys(name for dim in event.summed for name, _ in dim.names):
            if name not in out:
                summed += axes.get(name, ())
        if "expert" in out:  # all rows of an expert have come to where it is
            summed = [axis for axis in summed if axis not in division.axes_of("expert")]
        lies = division.lies(event.out)
        scattered = [axis for axis in summed if axis in lies]
        reduced = [axis for axis in summed if axis not in lies]
        whole = division.bytes(event.out, without=scattered) if scattered else 0
        if scattered:
            n = division.ways(scattered)
            sent = whole * (n - 1) / n
            self._send("reduce-scatter", scattered, sent)
            if "batch" in out:  # tokens between two branches, which the next one wants whole
                self._send("all-gather", scattered, sent)
        if reduced:
            n = division.ways(reduced)
            route = Route("all-reduce", tuple(reduced), 2 * division.bytes(event.out) * (n - 1) / n)
            added_up = "batch" not in out and event.out.shape in self._loop.carried
            (self._total.after if added_up else self._total.routes)[route] += 1
        return whole

    def _look_up(self, event: Lookup) -> None:
        """Where an axis splits both the rows and their width, each device reads its width of all
        rows, and they are exchanged; where one splits the table's length, results are added."""
        division = self._division
        of_rows = division.assigned(event.rows.factors)
        of_table = division.assigned(event.table.array.factors)
        rows_axes = {a for some in of_rows.values() for a in some}
        length = {name for dim in event.numbers for name, _ in dim.names}
        size = division.bytes(event.rows)
        for name, axes in of_table.items():
            both = [a for a in axes if a in rows_axes and name not in length]
            alone = [a for a in axes if name in length and a not in rows_axes]
            if both:
                n = division.ways(both)
                self._send("all-to-all", both, size * (n - 1) / n)
            if alone and event.table.parameter:
                n = division.ways(alone)
                self._send("all-reduce", alone, 2 * size * (n - 1) / n)
        if not event.table.parameter:
            table_axes = {a for some in of_table.values() for a in some}
            reduced = [a for a in division.sizes if a in rows_axes - table_axes]
            if reduced:
                n = division.ways(reduced)
                total = division.bytes(event.table.array)
                self._send("all-reduce", reduced, 2 * total * (n - 1) / n)

    def _pass_around(self, array: Array) -> None:
        """A ring over the sequence passes keys and values on in the forward pass, and twice more,
        with their gradients, in the backward pass."""
        axes = self._division.axes_of("seq")
        if axes:
            n = self._division.ways(axes)
            self._send("collective-permute", axes, 3 * self._division.bytes(array) * (n - 1))

    def _exchange_rows(self, event: Product) -> None:
        """Rows come to the devices of their experts, or go back: the side as wide as the model.

        Of products with experts' weights these are rows of "embed", read or made.
        """
        axes = self._division.axes_of("expert")
        rows = [o.array for o in event.operands if "expert" not in o.array.names]
        if axes and rows:
            n = self._division.ways(axes)
            reads = any("embed" in dict(dim.names) for dim in event.summed)
            side = rows[0] if reads else event.out
            self._send("all-to-all", axes, self._division.bytes(side) * (n - 1) / n)

    def _send(self, kind: str, axes: Iterable[str], sent: float) -> None:
        self._total.routes[Route(kind, tuple(axes), sent)] += 1


def _axes_of_product(event: Product, division: Division) -> dict[str, tuple[str, ...]]:
    """Returns which mesh axes each logical axis of a product is divided over; the batch's first."""
    order = {"batch": 0, "seq": 1}
    factors = (*event.out.factors, *(pair for dim in event.summed for pair in dim.names))
    return division.assigned(tuple(sorted(factors, key=lambda pair: order.get(pair[0], 2))))


def _missing(array: Array, division: Division, axes: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the mesh axes that split a parameter where it lies and not in a product.

    Those of experts are not gathered: their rows come to them.
    """
    missing = []
    for name, lies in division.assigned(array.factors).items():
        if name != "expert":
            missing += [axis for axis in lies if axis not in axes.get(name, ())]
    return tuple(missing)
