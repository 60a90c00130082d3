"""The few lines before the first step: what runs, where, how large, and what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from axlearn_core.module import parameter_count
from axlearn_core.observe.progress import count, size
from axlearn_core.training.program import Program

if TYPE_CHECKING:
    from axlearn_core.training.trainer import Trainer

_MOST_CHANGES = 12  # what is printed before the first loss stays on one screen


def summary_lines(
    trainer: Trainer, program: Program, experiment: str, changes: Sequence[str], directory: Path
) -> list[str]:
    """Returns the summary that stands above a run."""
    mesh = program.placement.mesh
    axes = {axis: ways for axis, ways in mesh.shape.items() if ways > 1} or "1 device"
    kind = mesh.devices.flat[0].device_kind
    shape = {name: dims for name, (dims, _) in trainer.input.batch_shape().items()}
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
        f"devices     {mesh.size} x {kind}, mesh {axes}",
        f"parameters  {count(parameter_count(trainer.model.parameter_specs()))}, "
        f"train state {size(state_bytes)} in all",
        f"batch       {rows}{per_row} per step, {trainer.config.max_step} steps",
        f"directory   {directory}",
    ]
