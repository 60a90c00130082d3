"""What stands above a run (what runs, where, how large, what was changed) and below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax

from axlearn_core.module import parameter_count
from axlearn_core.observe.goodput import Account
from axlearn_core.observe.progress import count, duration, size
from axlearn_core.training.evaluation import Evaluation
from axlearn_core.training.input import BatchShape
from axlearn_core.training.program import Program
from axlearn_core.training.report import per_character
from axlearn_core.training.result import Result

_MOST_CHANGES = 12  # what is printed before the first loss stays on one screen
_SMALLEST_PART = 0.0005  # of the time; less would be shown as 0.0%


def summary_lines(
    program: Program,
    batch_shape: BatchShape,
    max_step: int,
    experiment: str,
    changes: Sequence[str],
    directory: Path,
) -> list[str]:
    """Returns the summary that stands above a run."""
    mesh = program.placement.mesh
    processes = len({device.process_index for device in mesh.devices.flat})
    over = f" over {processes} processes" if processes > 1 else ""
    axes = {axis: ways for axis, ways in mesh.shape.items() if ways > 1} or "1 device"
    kind = mesh.devices.flat[0].device_kind
    shape = {name: dims for name, (dims, _) in batch_shape.items()}
    rows, *rest = max(shape.values(), key=len)
    per_row = f" x {rest[0]} tokens" if rest else ""
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.state))
    lines = [
        f"experiment  {experiment}",
        *(f"  changed   {line}" for line in changes[:_MOST_CHANGES]),
    ]
    if len(changes) > _MOST_CHANGES:
        lines.append(f"  changed   ... and {len(changes) - _MOST_CHANGES} more (axl config diff)")
    return [
        *lines,
        f"devices     {mesh.size} x {kind}{over}, mesh {axes}",
        f"parameters  {count(parameter_count(program.model.parameter_specs()))}, "
        f"train state {size(state_bytes)} in all",
        f"batch       {rows}{per_row} per step, {max_step} steps",
        *(f"warning     {line}" for line in program.warnings),
        f"directory   {directory}",
    ]


def closing_lines(
    result: Result,
    directory: Path,
    max_step: int,
    evaluations: Sequence[Evaluation],
    seconds: float,
) -> list[str]:
    """Returns what was done, and what to type next."""
    if result.reason != "completed":
        return [
            f"{result.reason} after step {result.step} of {max_step}; everything is saved",
            f"next: run the same command again to go on, or axl checkpoints ls {directory}",
        ]
    figures = [f"loss {result.values['train']['loss']:.4f}"]
    for evaluation in evaluations:
        values = result.values[evaluation.name]
        if "loss_per_character" in values:
            shown = per_character(values, evaluation.baselines)
        else:
            shown = f"{values['loss']:.4f} nats/token"
        figures.append(f"{evaluation.name} {shown}")
    return [
        f"done: step {result.step} in {duration(seconds)}; {', '.join(figures)}",
        f"next: axl generate {directory}",
    ]


def goodput_line(account: Account) -> str:
    """Returns where the time of a run went, the largest parts first."""
    largest = sorted(account.seconds.items(), key=lambda item: -item[1])
    parts = [
        f"{name.replace('_', ' ')} {seconds / account.wall:.1%}"
        for name, seconds in largest
        if seconds >= _SMALLEST_PART * account.wall
    ]
    return f"goodput     {account.goodput:.1%} of {duration(account.wall)}: {', '.join(parts)}"
