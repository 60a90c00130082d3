"""How often each part of a compiled program runs in one step: loops unrolled, branches chosen.

XLA's own cost analysis counts a loop's body once, on every platform (tried: jax 0.10, CPU and TPU),
so that a model whose layers are scanned would seem to have one layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from axlearn_core.plan.hlo import Computation, HloProgram, Instruction
from axlearn_core.plan.scalars import Scalars

Arithmetic = Callable[[Computation, Instruction], float]
"""Returns the floating-point operations of one instruction."""

State = tuple[Any, ...]
_LONGEST: Final = 100_000  # iterations that are followed before a loop counts as unbounded
_SAMPLES: Final = 64  # iterations of a loop in which the bounds of its inner loops are looked at


@dataclass(frozen=True)
class Execution:
    """A computation as it is called from one place."""

    computation: Computation
    count: float  # how often in one step; a fraction where loops differ in length: their mean
    fused: bool  # within one kernel, so that what lies between its instructions is never stored
    loops: tuple[str, ...]  # names of the while instructions around it, outermost first


class Unroller:
    """Walks a program as it runs.

    A loop's trip count is what the compiler noted; else its counter is followed from its first
    value to where the condition fails, which finds any count that depends on constants and on the
    counters of outer loops. Of the branches of a conditional the one with the most arithmetic is
    taken, an upper bound.

    Args:
        program: What to walk.
        arithmetic: Compares branches.
    """

    def __init__(self, program: HloProgram, arithmetic: Arithmetic):
        self._program = program
        self._arithmetic = arithmetic
        self.unknown_loops: set[str] = set()  # taken to run once

    def executions(self) -> Iterator[Execution]:
        """Yields the entry and every computation as it is called, callers before callees."""
        entry = self._program.computations[self._program.entry]
        yield from self._visit(Execution(entry, 1.0, fused=False, loops=()), [()])

    def _visit(self, run: Execution, states: Sequence[State]) -> Iterator[Execution]:
        """Args: states: values of the computation's argument, in some iterations of its loop."""
        yield run
        for line in run.computation.instructions.values():
            if line.opcode == "while":
                trips, inside = self._trips(run.computation, line, states)
                body = self._called(line, "body")
                loops = (*run.loops, line.name)
                yield from self._visit(Execution(body, run.count * trips, run.fused, loops), inside)
            elif (called := self._called_once(line)) is not None:
                fused = run.fused or line.opcode == "fusion"
                yield from self._visit(Execution(called, run.count, fused, run.loops), [()])

    def _called_once(self, line: Instruction) -> Computation | None:
        if line.opcode == "conditional":
            return max(self._branches(line), key=self._cost)
        if line.opcode in ("fusion", "async-start"):
            return self._called(line, "calls")
        return self._called(line, "to_apply") if line.opcode == "call" else None

    def _called(self, line: Instruction, attribute: str) -> Computation:
        return self._program.computations[line.attribute(attribute) or ""]

    def _branches(self, line: Instruction) -> list[Computation]:
        several = re.search(r"branch_computations={([^}]*)}", line.attributes)
        if several is None:
            return [self._called(line, f"{which}_computation") for which in ("true", "false")]
        names = (word.strip().lstrip("%") for word in several[1].split(","))
        return [self._program.computations[name] for name in names]

    def _cost(self, computation: Computation) -> float:
        return sum(
            run.count * self._arithmetic(run.computation, line)
            for run in self._visit(Execution(computation, 1.0, fused=False, loops=()), [()])
            for line in run.computation.instructions.values()
        )

    def _trips(
        self, computation: Computation, line: Instruction, states: Sequence[State]
    ) -> tuple[float, Sequence[State]]:
        """Returns how often a loop runs, on average over `states`, and some of its own states."""
        noted = re.search(r'"known_trip_count":\s*{"n":\s*"(\d+)"}', line.attributes)
        runs = [self._follow(computation, line, outer) for outer in states]
        found = [run for run in runs if run is not None]
        inside = [state for run in found for state in run]
        samples = inside[:: max(1, len(inside) // _SAMPLES)] or [()]
        if noted:
            return float(noted[1]), samples
        if len(found) < len(runs):
            self.unknown_loops.add(line.name)
            return 1.0, [()]
        return len(inside) / len(runs), samples

    def _follow(
        self, computation: Computation, line: Instruction, outer: State
    ) -> list[State] | None:
        """Returns the state at the start of each iteration, None if that cannot be known."""
        condition, body = self._called(line, "condition"), self._called(line, "body")
        state = Scalars(self._program, computation, (outer,)).value(line.operands[0])
        seen: list[State] = []
        while isinstance(state, tuple) and len(seen) < _LONGEST:
            goes_on = Scalars(self._program, condition, (state,)).value(condition.root)
            if goes_on is None:
                return None
            if not goes_on:
                return seen
            seen.append(state)
            state = Scalars(self._program, body, (state,)).value(body.root)
        return None
