"""Evaluates the integers of a compiled program, such as loop counters, without running it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from axlearn_core.plan.hlo import Computation, HloProgram, Instruction

# An integer or truth value, a tuple of them (the state of a loop), or None for what is unknown.
Value = Any

_COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "EQ": operator.eq,
    "NE": operator.ne,
}
_BINARY: Final[dict[str, Callable[[int, int], int]]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "minimum": min,
    "maximum": max,
    "and": operator.and_,
    "or": operator.or_,
    "divide": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),  # to zero
}
# What hands a value on as it is.
_SAME: Final = ("copy", "bitcast", "convert", "reshape", "opt-barrier", "copy-done", "broadcast")


class Scalars:
    """The values of one computation for given arguments; each is worked out once, when asked for.

    Args:
        program: Holds what the computation calls.
        computation: Whose values to find.
        arguments: The value of each parameter.
    """

    def __init__(self, program: HloProgram, computation: Computation, arguments: Sequence[Value]):
        self._program = program
        self._lines = computation.instructions
        self._arguments = arguments
        self._known: dict[str, Value] = {}

    def value(self, name: str) -> Value:
        """Returns the value of an instruction, None if it depends on anything but integers."""
        if name not in self._known:
            line = self._lines.get(name)
            self._known[name] = self._evaluate(line) if line and _can_be_known(line) else None
        return self._known[name]

    def _evaluate(self, line: Instruction) -> Value:
        if line.opcode == "constant":
            return _literal(line.operands[0])
        if line.opcode == "parameter":
            number = int(line.operands[0])
            return self._arguments[number] if number < len(self._arguments) else None
        if line.opcode == "tuple":
            return tuple(self.value(name) for name in line.operands)
        if line.opcode == "get-tuple-element":
            return self._element(line)
        if line.opcode in _SAME:
            return self.value(line.operands[0])
        values = [self.value(name) for name in line.operands]
        if line.opcode in ("fusion", "call"):
            return self._call(line, values)
        if any(not isinstance(value, int) for value in values):
            return None
        if line.opcode in _BINARY and not (line.opcode == "divide" and values[1] == 0):
            return _BINARY[line.opcode](*values)
        if line.opcode == "compare":
            return _COMPARE[line.attribute("direction") or "EQ"](*values)
        if line.opcode == "select":
            return values[1] if values[0] else values[2]
        if line.opcode == "negate":
            return -values[0]
        return None

    def _element(self, line: Instruction) -> Value:
        whole = self._lines.get(line.operands[0])
        index = int(line.attribute("index") or 0)
        if whole is not None and whole.opcode == "tuple":
            return self.value(whole.operands[index])
        values = self.value(line.operands[0])
        return values[index] if isinstance(values, tuple) and index < len(values) else None

    def _call(self, line: Instruction, values: list[Value]) -> Value:
        name = line.attribute("calls" if line.opcode == "fusion" else "to_apply")
        called = self._program.computations[name or ""]
        return Scalars(self._program, called, values).value(called.root)


def _can_be_known(line: Instruction) -> bool:
    if line.opcode in ("tuple", "parameter", "get-tuple-element", *_SAME) and len(line.shapes) != 1:
        return True
    whole = all(re.match(r"pred|[su]\d", shape.dtype) for shape in line.shapes)
    return whole and all(shape.elements == 1 for shape in line.shapes)


def _literal(text: str) -> int | None:
    word = text.strip("{} ")
    if word in ("true", "false"):
        return int(word == "true")
    return int(word) if re.fullmatch(r"-?\d+", word) else None
