"""A plan from the compiled program: the step that `axl train` runs, for devices not here."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import Mesh

from axlearn_core.kernels import recording_choices
from axlearn_core.module import parameter_count
from axlearn_core.plan.arithmetic import activation_bytes, division_on
from axlearn_core.plan.blueprint import draw
from axlearn_core.plan.kernels import flops_of_kernels
from axlearn_core.plan.network import network_of, traffic
from axlearn_core.plan.placed import bytes_per_device, largest
from axlearn_core.plan.reading import ProgramReading, read_program
from axlearn_core.plan.record import Memory, Plan
from axlearn_core.plan.roofline import memory_bandwidth, memory_limit, peak_flops, speed
from axlearn_core.plan.target import Target
from axlearn_core.training.input import tokens_per_step
from axlearn_core.training.program import Program

if TYPE_CHECKING:
    from axlearn_core.training.trainer import Trainer


class DoesNotFitError(Exception):
    """The compiler would not go on, since the step needs more memory than the chip has.

    Attributes:
        memory: what it needs; its limit is what the compiler called available.
        reason: the compiler's first sentence.
    """

    def __init__(self, memory: Memory, message: str):
        super().__init__(message)
        self.memory = memory
        self.reason = message.splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ")


def plan_by_compiling(
    trainer: Trainer, target: Target, *, experiment: str, overrides: tuple[str, ...]
) -> Plan:
    """Compiles a trainer's step for a target and reads what it needs. Nothing is allocated.

    Args:
        trainer: with the mesh for that many devices.
        target: with devices to compile for.
        experiment: its name, for people.
        overrides: what was changed in it, for people.

    Raises:
        ConfigError: if the experiment does not fit the devices.
        DoesNotFitError: if the compiler says so, as those of TPUs do.
    """
    assert target.devices is not None, target.reason
    shape = trainer.input.batch_shape()
    program = trainer.program(trainer.placement(target.devices))
    program.check_batch("input", shape, accumulation=trainer.config.accumulation)
    mesh = program.placement.mesh
    assert isinstance(mesh, Mesh)
    start = time.perf_counter()
    with recording_choices() as choices:
        lowered = program.lower_train_step(shape)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        batch = bytes_per_device(program.batch_structs(shape))
        memory = _refused(str(error), program, target, batch)
        raise DoesNotFitError(memory, str(error)) from error
    seconds = time.perf_counter() - start
    counted = _activations(trainer, target)
    memory = _memory(compiled.memory_analysis(), program, target).with_activations(counted)
    reading = read_program(compiled.as_text() or "", mesh, flops_of_kernels(choices))
    sent = traffic(reading.collectives, network_of(target, mesh))
    model_flops = trainer.model.flops_per_step({name: dims for name, (dims, _) in shape.items()})
    dtype = trainer.config.compute_dtype or "float32"
    return Plan(
        experiment=experiment,
        overrides=overrides,
        target=target.name,
        method="compiled",
        mesh_shape={axis: size for axis, size in mesh.shape.items() if size > 1},
        tokens_per_step=tokens_per_step(shape),
        parameter_count=parameter_count(program.model.parameter_specs()),
        model_flops=model_flops or 0.0,
        flops=reading.flops,
        bytes_accessed=reading.bytes_accessed,
        memory=memory,
        traffic=sent,
        **speed(
            target,
            flops=reading.flops,
            bytes_accessed=reading.bytes_accessed,
            exposed_bytes=_exposed_bytes(reading, target, dtype),
            traffic=sent,
            model_flops=model_flops,
            dtype=dtype,
        )._asdict(),
        largest=largest(program.state),
        notes=tuple(_notes(compiled.memory_analysis(), reading, target, memory, counted)),
        compile_seconds=seconds,
    )


def _exposed_bytes(reading: ProgramReading, target: Target, dtype: str) -> float:
    peak, bandwidth = peak_flops(target, dtype), memory_bandwidth(target)
    return reading.exposed_bytes(peak / bandwidth) if peak and bandwidth else 0.0


def _activations(trainer: Trainer, target: Target) -> int:
    """Returns what a device keeps for the backward pass, which compilers do not tell apart."""
    cfg = trainer.config
    sizes, _ = target.mesh_sizes(cfg.mesh_shape, cfg.slow_mesh_shape)
    division = division_on(target, sizes, cfg.sharding_rules, cfg.accumulation)
    return activation_bytes(draw(trainer), division)


def _memory(analysis: Any, program: Program, target: Target) -> Memory:
    state = program.state
    parameters, optimizer = bytes_per_device(state.params), bytes_per_device(state.learner)
    others = int(analysis.argument_size_in_bytes) - parameters - optimizer
    new = int(analysis.output_size_in_bytes) - int(analysis.alias_size_in_bytes)
    temporary = int(analysis.temp_size_in_bytes) + new + int(analysis.generated_code_size_in_bytes)
    return Memory(parameters, optimizer, max(others, 0), 0, temporary, memory_limit(target))


_GIVEN = r"([\d.]+)([KMGT]?)"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# The two ways in which libtpu says it: after it has placed all buffers, and before.
_USED = re.compile(rf"Used {_GIVEN}B? of {_GIVEN}B? hbm")
_TEMPORARIES = re.compile(rf"temporaries \({_GIVEN}\) exceeds available HBM \({_GIVEN}\)")


def _refused(message: str, program: Program, target: Target, batch: int) -> Memory:
    """Reads what the compiler says that it needs; of the batch it has so many bytes."""
    state = program.state
    parameters, optimizer = bytes_per_device(state.params), bytes_per_device(state.learner)
    others = bytes_per_device([state.module_state, state.step, state.key, state.halted])
    known = Memory(parameters, optimizer, others + batch, 0, 0, memory_limit(target))
    if used := _USED.search(message):
        needed, limit = _bytes(used[1], used[2]), _bytes(used[3], used[4])
        return replace(known, temporary=max(0, needed - known.peak), limit=limit)
    if temporaries := _TEMPORARIES.search(message):
        needed, limit = (_bytes(*temporaries.groups()[at : at + 2]) for at in (0, 2))
        return replace(known, temporary=needed, limit=limit)
    return known


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])


def _notes(
    analysis: Any, reading: ProgramReading, target: Target, memory: Memory, counted: int
) -> list[str]:
    notes = [
        f"compiled for {target.devices and target.devices[0].device_kind}, nothing allocated",
        "activations are counted in the trace of the step; temporary is what the compiler adds",
    ]
    if counted > memory.activations:
        notes.append(
            f"{counted} bytes of activations were counted, more than all that the compiler keeps "
            "in this memory: it makes some again, or keeps them on the chip"
        )
    host = int(analysis.host_argument_size_in_bytes) + int(analysis.host_temp_size_in_bytes)
    if host:
        notes.append(f"{host} bytes for each device lie in the host's memory, beside these")
    if reading.unknown_loops:
        notes.append(
            f"{len(reading.unknown_loops)} loops whose length depends on data count as one round"
        )
    if reading.uncounted_kernels:
        names = sorted({name.rpartition("/")[2] for name in reading.uncounted_kernels})
        notes.append(
            f"the FLOPs lack those of kernels that do not say them: {', '.join(names)}. The time "
            "to compute is too short by as much"
        )
    return notes
