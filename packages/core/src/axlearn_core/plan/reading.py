"""What one device computes, moves and sends in one step, read from the compiled program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from axlearn_core.plan.collectives import Collective, collectives
from axlearn_core.plan.execution import Unroller
from axlearn_core.plan.hlo import parse_hlo
from axlearn_core.plan.memory_traffic import memory_bytes
from axlearn_core.plan.operations import matrix_flops

if TYPE_CHECKING:
    from jax.sharding import Mesh


@dataclass(frozen=True)
class ProgramReading:
    """A compiled program in numbers, of one device and one run of it, loops unrolled."""

    flops: float  # of matrix products
    bytes_accessed: float  # of main memory
    collectives: tuple[Collective, ...]
    unknown_loops: tuple[str, ...]  # counted once, since nothing tells how often they run


def read_program(text: str, mesh: Mesh) -> ProgramReading:
    """Reads a compiled program.

    Args:
        text: from `compiled.as_text()`.
        mesh: that it was compiled for.
    """
    program = parse_hlo(text)
    unroller = Unroller(program, matrix_flops)
    runs = list(unroller.executions())
    flops = accessed = 0.0
    for run in runs:
        for line in run.computation.instructions.values():
            flops += run.count * matrix_flops(run.computation, line)
            if not run.fused:
                accessed += run.count * memory_bytes(program, run.computation, line)
    return ProgramReading(
        flops, accessed, tuple(collectives(runs, mesh)), tuple(sorted(unroller.unknown_loops))
    )
