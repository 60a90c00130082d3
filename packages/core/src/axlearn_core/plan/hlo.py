"""Reads the text of a compiled program: computations, instructions, shapes.

The text is XLA's HLO after all passes, as `jax.stages.Compiled.as_text()` gives it: what one device
runs, so that every shape is a device's share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

# Bits of an element. Token, opaque and the like hold nothing.
_BITS = {
    "pred": 8,
    **dict.fromkeys(("s2", "u2"), 2),
    **dict.fromkeys(("s4", "u4", "f4e2m1fn"), 4),
    **dict.fromkeys(("bf16",), 16),
    **dict.fromkeys(("c64",), 64),
    **dict.fromkeys(("c128",), 128),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One array: `bf16[8,128]{1,0:T(8,128)S(1)}` lies in memory space 1, which is not the main."""

    dtype: str
    dims: tuple[int, ...]
    memory_space: int = 0  # 0 is the device's main memory; 1 is a TPU's VMEM, 5 the host's memory

    @property
    def elements(self) -> int:
        return prod(self.dims)

    @property
    def bytes(self) -> int:
        return -(-self.elements * _bits(self.dtype) // 8)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of its results: the leaves of a tuple, in order
    operands: tuple[str, ...]  # names, or the literals of a constant and a parameter's number
    attributes: str  # all that follows the operands, as printed

    def attribute(self, name: str) -> str | None:
        """Returns a simple attribute: `body=%region` gives "region" for "body"."""
        found = re.search(rf"(?:^|[ ,]){name}=%?([^\s,{{}}]+)", self.attributes)
        return found[1] if found else None

    def numbers(self, name: str) -> tuple[int, ...]:
        """Returns a list of numbers: `dimensions={1,2}` gives (1, 2), and () if it is not there."""
        found = re.search(rf"(?:^|[ ,]){name}={{([\d,]*)}}", self.attributes)
        return tuple(map(int, found[1].split(","))) if found and found[1] else ()

    @property
    def op_name(self) -> str:
        """Where it is from, as jax named it: "jit(step)/jvp()/while/body/dot_general"."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""


@dataclass(frozen=True)
class Computation:
    """A function of the program."""

    name: str
    instructions: Mapping[str, Instruction]  # in the order in which they are printed
    root: str

    @cached_property
    def parameters(self) -> dict[int, Instruction]:
        return {
            int(line.operands[0]): line
            for line in self.instructions.values()
            if line.opcode == "parameter"
        }

    def operand_shapes(self, line: Instruction) -> list[Shape]:
        """Returns the arrays that an instruction reads, those within tuples included."""
        found = (self.instructions.get(name) for name in line.operands)
        return [shape for operand in found if operand for shape in operand.shapes]


@dataclass(frozen=True)
class HloProgram:
    """All computations of a compiled program by name, and which of them is its entry."""

    computations: Mapping[str, Computation]
    entry: str


def parse_hlo(text: str) -> HloProgram:
    """Reads a compiled program.

    Raises:
        ValueError: if the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry = name = root = ""
    lines: dict[str, Instruction] = {}
    for raw in _joined(text):
        if name and raw == "}":
            computations[name] = Computation(name, lines, root)
            name = ""
        elif name:
            instruction = _instruction(raw)
            if instruction is not None:
                lines[instruction.name] = instruction
                if raw.lstrip().startswith("ROOT "):
                    root = instruction.name
        elif raw.endswith("{") and " -> " in raw:
            name = raw.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
            lines, root = {}, ""
            if raw.startswith("ENTRY "):
                entry = name
    if not entry:
        raise ValueError(f"no entry computation in a program of {len(text)} characters")
    return HloProgram(computations, entry)


def _joined(text: str) -> Iterator[str]:
    """Yields the lines, with what a kernel's metadata broke into several put together again."""
    whole = ""
    for raw in text.splitlines():
        starts = raw.startswith(("  ", "%", "ENTRY ")) or raw in ("", "}")
        if starts or not whole.startswith("  "):
            if whole:
                yield whole
            whole = raw
        else:
            whole += raw
    yield whole


def _instruction(raw: str) -> Instruction | None:
    name, separator, rest = raw.strip().removeprefix("ROOT ").partition(" = ")
    if not separator:
        return None
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    type_text, rest = rest[:end], rest[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    end = _closing(rest, len(opcode))
    operands = rest[len(opcode) + 1 : end - 1]
    if opcode != "constant":
        names = (word.rpartition("%")[2].strip() for word in _COMMENT.sub("", operands).split(","))
        operand_names = tuple(filter(None, names))
    else:
        operand_names = (operands,)
    return Instruction(name.lstrip("%"), opcode, _shapes(type_text), operand_names, rest[end:])


_COMMENT = re.compile(r"/\*.*?\*/")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_PARENTHESIS = re.compile(r"[()]")


def _shapes(text: str) -> tuple[Shape, ...]:
    found = []
    for dtype, dims, layout in _SHAPE.findall(text):
        space = _SPACE.search(layout)
        sizes = tuple(int(size.lstrip("<=")) for size in dims.split(",") if size)
        found.append(Shape(dtype, sizes, int(space[1]) if space else 0))
    return tuple(found)


def _closing(text: str, start: int) -> int:
    """Returns the place after the parenthesis that closes the one at `start`."""
    depth = 0
    for match in _PARENTHESIS.finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.end()
    return len(text)


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    number = re.match(r"[sufb]+(\d+)", dtype)  # s32, u8, f32, f8e4m3fn
    return int(number[1]) if number else 0
