"""The bytes of a device's main memory that a compiled program reads and writes.

Each kernel reads its operands and writes its results once; what lies within a fusion stays in
registers, and what a TPU keeps in VMEM (memory space 1) or on the host (5) is not counted. A slice
reads what it takes, and an update writes what it changes, in place. Caches are not modelled, so
that a CPU's figure is an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from axlearn_core.plan.hlo import Computation, HloProgram, Instruction, Shape

_FREE: Final = frozenset(
    [
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "while",
        "conditional",
        "call",
        "after-all",
        "opt-barrier",
        "partition-id",
        "replica-id",
        "async-start",
        "async-update",
        "async-done",
    ]
)
_NOTHING_MOVES: Final = ("AllocateBuffer", "ConcatBitcast", "AsyncCollectiveDone", "Sharding")
_SLICES: Final = ("dynamic-slice", "slice", "gather", "slice-start")
_UPDATES: Final = ("dynamic-update-slice", "scatter")
_VIEWS: Final = ("bitcast", "convert", "copy", "reshape")  # within a fusion


def memory_bytes(program: HloProgram, computation: Computation, line: Instruction) -> float:
    """Returns what one instruction moves; of a fusion, ask for it and not for what it contains."""
    if line.opcode in _FREE or line.opcode.endswith("-done"):
        return 0.0
    if line.attribute("custom_call_target") in tuple(f'"{name}"' for name in _NOTHING_MOVES):
        return 0.0
    operands = [computation.instructions.get(name) for name in line.operands]
    sources = [_main(operand.shapes) if operand else 0 for operand in operands]
    if line.opcode == "fusion":
        return _fusion(program.computations[line.attribute("calls") or ""], line, sources)
    if line.opcode in _SLICES:
        whole = sum(shape.bytes for operand in operands if operand for shape in operand.shapes)
        taken = min(sum(shape.bytes for shape in line.shapes[-2:]), whole)
        return float((taken if sources[0] else 0) + min(_main(line.shapes), taken))
    if line.opcode in _UPDATES:
        return 2.0 * sources[2 if line.opcode == "scatter" else 1]
    written = _main(line.shapes)
    if line.opcode.endswith("-start") and written > sum(sources):
        written -= sum(sources)  # the results of these begin with their operands
    return float(sum(sources) + written)


def _main(shapes: tuple[Shape, ...]) -> int:
    return sum(shape.bytes for shape in shapes if shape.memory_space == 0)


def _fusion(inside: Computation, line: Instruction, sources: list[int]) -> float:
    read = sum(
        min(size, _read(inside, inside.parameters[number]))
        for number, size in enumerate(sources)
        if size and number in inside.parameters
    )
    roots = list(_roots(inside))
    if len(roots) != len(line.shapes):
        return float(read + _main(line.shapes))
    written = sum(
        _changed(inside, root)
        for root, shape in zip(roots, line.shapes, strict=True)
        if shape.memory_space == 0
    )
    return float(read + written)


def _roots(inside: Computation) -> Iterator[Instruction]:
    root = inside.instructions[inside.root]
    names = root.operands if root.opcode == "tuple" else (root.name,)
    yield from (_seen_through(inside, inside.instructions[name]) for name in names)


def _seen_through(inside: Computation, line: Instruction) -> Instruction:
    while line.opcode in _VIEWS:
        line = inside.instructions[line.operands[0]]
    return line


def _changed(inside: Computation, root: Instruction) -> int:
    if root.opcode in _UPDATES:
        update = inside.instructions[root.operands[2 if root.opcode == "scatter" else 1]]
        return sum(shape.bytes for shape in update.shapes)
    return sum(shape.bytes for shape in root.shapes)


def _read(inside: Computation, source: Instruction) -> int:
    """Returns what a fusion reads of one of its parameters."""
    total = 0
    for user in inside.instructions.values():
        if source.name not in user.operands:
            continue
        if user.opcode in _VIEWS:
            total += _read(inside, user)
        elif user.opcode in _SLICES:
            total += sum(shape.bytes for shape in user.shapes)
        elif user.opcode not in _UPDATES or user.operands[0] != source.name:
            return sum(shape.bytes for shape in source.shapes)
    return total
