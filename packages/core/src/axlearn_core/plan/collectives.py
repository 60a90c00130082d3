"""The collectives of a compiled program: which mesh axes they span, and what they send.

One device of n sends, in a ring, with S the bytes that it has before:

| kind | bytes |
| --- | --- |
| all-gather | (n - 1) S |
| reduce-scatter | (n - 1) / n S |
| all-reduce | 2 (n - 1) / n S |
| all-to-all | (n - 1) / n S |
| ragged-all-to-all | (n - 1) / n S of the whole buffer: an upper bound, since sizes are data |
| collective-permute | S, if it sends at all |
| collective-broadcast | S |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from axlearn_core.plan.execution import Execution
from axlearn_core.plan.hlo import Computation, Instruction, Shape

if TYPE_CHECKING:
    from jax.sharding import Mesh

_SENT: Final[dict[str, Callable[[int, int], float]]] = {
    "all-gather": lambda n, size: (n - 1) * size,
    "reduce-scatter": lambda n, size: (n - 1) / n * size,
    "all-reduce": lambda n, size: 2 * (n - 1) / n * size,
    "all-to-all": lambda n, size: (n - 1) / n * size,
    "ragged-all-to-all": lambda n, size: (n - 1) / n * size,
    "collective-permute": lambda n, size: size,
    "collective-broadcast": lambda n, size: size,
}


@dataclass(frozen=True)
class Collective:
    """One collective as it stands in the program."""

    kind: str  # as the table above names it, whether asynchronous or not
    axes: tuple[str, ...]  # mesh axes that a group spans, wholly or in part
    groups: NDArray[np.int64]  # positions in the mesh, [groups, devices]; a permute's are pairs
    operands: tuple[Shape, ...]  # what a device has before
    count: float  # how often per step
    sent: float  # bytes that a device sends each time
    loops: tuple[str, ...]  # the while instructions around it, outermost first
    op_name: str  # where it is from, as jax named it

    @property
    def devices(self) -> int:
        """The devices of a group."""
        return int(self.groups.shape[1])

    @property
    def bytes(self) -> float:
        """What a device sends per step."""
        return self.count * self.sent


def collectives(executions: Iterable[Execution], mesh: Mesh) -> Iterator[Collective]:
    """Yields the collectives among what a program for `mesh` executes."""
    for run in executions:
        if _continues(run.computation):
            continue
        for line in run.computation.instructions.values():
            kind = line.opcode.removesuffix("-start")
            if kind not in _SENT:
                continue
            operands = tuple(run.computation.operand_shapes(line))
            if kind == "ragged-all-to-all":
                operands = operands[:1]  # then come the output, offsets and sizes
            if kind == "all-reduce" and _keeps_a_share(run.computation):
                kind = "reduce-scatter"
            groups = _groups(line, mesh.size)
            if groups.size == 0 or groups.shape[1] < 2:
                continue
            sent = _SENT[kind](groups.shape[1], sum(shape.bytes for shape in operands))
            axes = _axes(groups, mesh)
            yield Collective(kind, axes, groups, operands, run.count, sent, run.loops, line.op_name)


def _continues(computation: Computation) -> bool:
    """Returns whether this is a later part of a collective that libtpu spreads over fusions."""
    spread = False
    for line in computation.instructions.values():
        if 'custom_call_target="AsyncCollectiveStart"' in line.attributes:
            return False
        spread |= '"async_collective_fusion_config"' in line.attributes
    return spread


def _keeps_a_share(computation: Computation) -> bool:
    """Returns whether this is a reduce-scatter, which libtpu writes as a fused sum and slice."""
    return "all-reduce-scatter" in computation.name


# Groups, in the three forms in which XLA prints them.
_NUMBERS: Final = re.compile(r"(?:replica_groups|source_target_pairs)={((?:{[\d,]*},?)*)}")
_IOTA: Final = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH: Final = re.compile(
    r"replica_groups=(?:@\w+|mesh)\[([^\]]*)\]"
    r"(?:, ?device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? ?{([^}]*)}"
)


def _groups(line: Instruction, size: int) -> NDArray[np.int64]:
    """Returns groups of positions, [groups, devices], or a permute's pairs that move something."""
    if listed := _NUMBERS.search(line.attributes):
        rows = [_integers(row) for row in re.findall(r"{([\d,]*)}", listed[1])]
        if line.opcode.startswith("collective-permute"):
            rows = [row for row in rows if row[0] != row[1]]
        return np.array(rows, np.int64) if rows else np.arange(size).reshape(1, size)
    if iota := _IOTA.search(line.attributes):
        devices = np.arange(np.prod(_integers(iota[2]))).reshape(_integers(iota[2]))
        if iota[3]:
            devices = devices.transpose(_integers(iota[3]))
        return devices.reshape(_integers(iota[1]))
    if named := _MESH.search(line.attributes):
        groups = _along_axes(named[1], named[4])
        if named[2]:
            shape = _integers(named[2])
            devices = np.arange(np.prod(shape)).reshape(shape)
            order = _integers(named[3]) if named[3] else range(len(shape))
            groups = devices.transpose(order).reshape(-1)[groups]
        return groups
    return np.arange(size).reshape(1, size)


def _along_axes(mesh: str, axes: str) -> NDArray[np.int64]:
    """Reads `mesh['a'=4,'b'=2] {'a'}`; an axis `'a':(2)2` is its part of 2 after the first 2."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    wanted = {
        name: (int(before or 1), int(part) if part else sizes[name])
        for name, before, part in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes)
    }
    shape: list[int] = []
    inside: list[int] = []
    for name, size in sizes.items():
        before, part = wanted.get(name, (size, 1))
        inside += [len(shape) + 1] if name in wanted else []
        shape += [before, part, size // before // part]
    outside = [axis for axis in range(len(shape)) if axis not in inside]
    devices = np.arange(np.prod(shape)).reshape(shape).transpose(outside + inside)
    return devices.reshape(-1, int(np.prod([shape[axis] for axis in inside])))


def _integers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def _axes(groups: NDArray[np.int64], mesh: Mesh) -> tuple[str, ...]:
    places = np.stack(np.unravel_index(groups, mesh.devices.shape))  # [axes, groups, devices]
    varies = (places != places[:, :, :1]).any(axis=(1, 2))
    return tuple(name for name, moves in zip(mesh.axis_names, varies, strict=True) if moves)
