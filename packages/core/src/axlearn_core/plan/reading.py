"""What one device computes, moves and sends in one step, read from the compiled program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from axlearn_core.plan.collectives import Collective, collectives
from axlearn_core.plan.execution import Unroller
from axlearn_core.plan.hlo import Computation, HloProgram, Instruction, parse_hlo
from axlearn_core.plan.memory_traffic import memory_bytes
from axlearn_core.plan.operations import is_opaque_kernel, matrix_flops

if TYPE_CHECKING:
    from jax.sharding import Mesh


FlopsOfKernel = Callable[[Instruction], float | None]
"""Returns the floating-point operations of one call of an opaque kernel, None if nobody tells."""


class Kernel(NamedTuple):
    """What one instruction, with all that is fused into it, does in a step."""

    flops: float  # of matrix products
    bytes: float  # of main memory


@dataclass(frozen=True)
class ProgramReading:
    """A compiled program in numbers, of one device and one run of it, loops unrolled."""

    kernels: tuple[Kernel, ...]
    collectives: tuple[Collective, ...]
    unknown_loops: tuple[str, ...]  # counted once, since nothing tells how often they run
    uncounted_kernels: tuple[str, ...]  # whose arithmetic is not in `flops`, as jax named them

    @property
    def flops(self) -> float:
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def bytes_accessed(self) -> float:
        return sum(kernel.bytes for kernel in self.kernels)

    def exposed_bytes(self, flops_per_byte: float) -> float:
        """Returns the memory traffic that no arithmetic of its own kernel hides.

        Args:
            flops_per_byte: what is computed in the time of moving a byte, at peak rates.
        """
        return sum(
            max(0.0, kernel.bytes - kernel.flops / flops_per_byte) for kernel in self.kernels
        )


def read_program(
    text: str, mesh: Mesh, flops_of_kernel: FlopsOfKernel = lambda line: None
) -> ProgramReading:
    """Reads a compiled program.

    Args:
        text: from `compiled.as_text()`.
        mesh: that it was compiled for.
        flops_of_kernel: counts the kernels that XLA cannot look into.
    """
    program = parse_hlo(text)
    unroller = Unroller(program, matrix_flops)
    runs = list(unroller.executions())
    kernels = [
        Kernel(run.count * flops, run.count * memory_bytes(program, run.computation, line))
        for run in runs
        if not run.fused
        for line in run.computation.instructions.values()
        for flops in [_with_fused(program, run.computation, line, flops_of_kernel)]
    ]
    opaque = [line for run in runs for line in _opaque(run.computation)]
    return ProgramReading(
        tuple(kernel for kernel in kernels if any(kernel)),
        tuple(collectives(runs, mesh)),
        tuple(sorted(unroller.unknown_loops)),
        tuple(sorted({line.op_name for line in opaque if flops_of_kernel(line) is None})),
    )


def _opaque(computation: Computation) -> Iterator[Instruction]:
    yield from filter(is_opaque_kernel, computation.instructions.values())


def _with_fused(
    program: HloProgram,
    computation: Computation,
    line: Instruction,
    flops_of_kernel: FlopsOfKernel,
) -> float:
    if is_opaque_kernel(line):
        return flops_of_kernel(line) or 0.0
    if line.opcode != "fusion":
        return matrix_flops(computation, line)
    inside = program.computations[line.attribute("calls") or ""]
    return sum(
        _with_fused(program, inside, part, flops_of_kernel) for part in inside.instructions.values()
    )
