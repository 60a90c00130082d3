"""Where a run's first state comes from: the copies beside its processes, storage, or its seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from axlearn_core.checkpoint import CheckpointInfo
from axlearn_core.checkpoint.checkpointer import read_facts
from axlearn_core.checkpoint.copies import Copies
from axlearn_core.observe.progress import Progress
from axlearn_core.parallel import is_first
from axlearn_core.training.program import Program
from axlearn_core.training.resume import restore_state
from axlearn_core.training.run_directory import RunDirectory
from axlearn_core.training.state import TrainState

RESTORES = "restores.jsonl"


class Start(NamedTuple):
    """What a session begins with.

    Attributes:
        step: the last one that is done.
        state: after that step.
        facts: what was saved beside it; {} for a run that begins.
    """

    step: int
    state: TrainState
    facts: Mapping[str, Any]


def nearest_start(
    newest: CheckpointInfo | None,
    copies: Copies,
    program: Program,
    *,
    initial: Callable[[], TrainState],
    check: Callable[[Mapping[str, Any]], None],
    run: RunDirectory,
    progress: Progress,
    max_step: int,
) -> Start:
    """Returns the newest state that there is, from the nearest place that has it.

    Process 0 adds to `restores.jsonl` how many processes took their part from where.

    Args:
        newest: the durable checkpoint that the run may go on from.
        copies: those beside the processes.
        program: says which arrays there are, and where they lie.
        initial: makes the state of a run that begins.
        check: raises if the run may not go on from what these facts were saved with.
        run: its directory.
        progress: where to say from where.
        max_step: a copy of it or later is of no use.

    Raises:
        UserError: as `check` does, or if the checkpoint cannot be read.
    """
    step = newest.step if newest else 0
    found = copies.find(step, max_step)
    if found is not None and (restored := copies.restore(found)) is not None:
        state, facts = restored
        check(facts)
        fetched = jax.process_count() - found.own
        progress.say(
            f"going on from step {found.step} instead: {found.own} of {jax.process_count()} "
            f"processes have a copy, {fetched} took one from another, none read storage"
        )
        _record(run.path, found.step, own=found.own, fetched=fetched, storage=0)
        return Start(found.step, state, facts)
    if newest is None:
        return Start(0, initial(), {})
    facts = read_facts(newest.path)
    state = restore_state(newest.path, facts, program)
    _record(run.path, step, own=0, fetched=0, storage=jax.process_count())
    return Start(step, state, facts)


def _record(directory: Path, step: int, **processes: int) -> None:
    if is_first():
        with (directory / RESTORES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **processes}) + "\n")
