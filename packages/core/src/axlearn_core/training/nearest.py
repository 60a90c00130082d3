"""Where a run's first state comes from: the copies beside its processes, storage, or its seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from axlearn_core.checkpoint import CheckpointInfo
from axlearn_core.checkpoint.checkpointer import read_facts, restore
from axlearn_core.checkpoint.copies import Copies
from axlearn_core.checkpoint.read_once import gathered, spread
from axlearn_core.observe.progress import Progress
from axlearn_core.parallel import is_first
from axlearn_core.training.input import Input
from axlearn_core.training.program import Program
from axlearn_core.training.resume import check_same_input
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
    source: Input,
    progress: Progress,
    *,
    directory: Path,
    max_step: int,
) -> Start:
    """Returns the newest state that there is, from the nearest place that has it.

    Process 0 adds to `restores.jsonl` how many processes took their part from where.

    Raises:
        UserError: if the input would not go on with the batches that a copy expects, or the
            checkpoint cannot be read.
    """
    step = newest.step if newest else 0
    found = copies.find(step, max_step)
    if found is not None and (restored := copies.restore(found)) is not None:
        state, facts = restored
        check_same_input(facts, source)
        fetched = jax.process_count() - found.own
        progress.say(
            f"going on from step {found.step} instead: {found.own} of {jax.process_count()} "
            f"processes have a copy, {fetched} took one from another, none read storage"
        )
        _record(directory, found.step, own=found.own, fetched=fetched, storage=0)
        return Start(found.step, state, facts)
    if newest is None:
        return Start(0, program.initial_state(), {})
    several = jax.process_count() > 1
    state = restore(newest.path, spread(program.state) if several else program.state)
    state = gathered(state, program.state)
    _record(directory, step, own=0, fetched=0, storage=jax.process_count())
    return Start(step, state, read_facts(newest.path))


def _record(directory: Path, step: int, **processes: int) -> None:
    if is_first():
        with (directory / RESTORES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **processes}) + "\n")
