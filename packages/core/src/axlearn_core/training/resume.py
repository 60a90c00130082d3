"""Which checkpoint a run goes on from, whether it may, and how."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp

from axlearn_core.checkpoint import (
    CheckpointInfo,
    damage,
    newest_intact,
    remove_incomplete,
    set_aside,
    step_folder,
)
from axlearn_core.checkpoint.checkpointer import read_facts, restore
from axlearn_core.checkpoint.read_once import gathered, spread
from axlearn_core.checkpoint.store import Store
from axlearn_core.errors import UserError
from axlearn_core.observe.clock import Clock
from axlearn_core.observe.progress import Progress
from axlearn_core.parallel import from_first
from axlearn_core.plugins import get_registry
from axlearn_core.training.input import BatchIterator, Input
from axlearn_core.training.program import Program
from axlearn_core.training.run_directory import RunDirectory, describe
from axlearn_core.training.state import TrainState


def find_checkpoint(
    run: RunDirectory, source: Input, progress: Progress, clock: Clock, *, store: str | None = None
) -> CheckpointInfo | None:
    """Returns the checkpoint to go on from, None to begin, and says why.

    Process 0 looks: what killed saves have left is removed; damaged checkpoints are set aside; a
    newer one of the store is copied to the run's directory.

    Raises:
        UserError: if the input would not go on with the batches that the checkpoint expects, or
            plugins have other versions, and that is not accepted.
    """
    step = from_first(lambda: _find_step(run, source, progress, clock, store))
    return None if step is None else CheckpointInfo(step, step_folder(run.path, step), "complete")


def restore_state(folder: Path, facts: Mapping[str, Any], program: Program) -> TrainState:
    """Restores the state of an intact checkpoint, whatever `guards.numbers` was when it was saved.

    What that guard remembers begins anew if it now remembers something else. Of several processes
    none reads what another one reads.
    """
    numbers, like = program.numbers, program.state
    saved = facts.get("guards", {}).get("seen", {})
    whole = like.step.sharding  # on every device
    if saved != numbers.shapes():
        seen: dict[str, Any] = {
            name: jax.ShapeDtypeStruct(shape, jnp.float32 if shape else jnp.int32, sharding=whole)
            for name, shape in saved.items()
        }
        like = dataclasses.replace(like, seen=seen)
    several = jax.process_count() > 1
    state = cast(TrainState, gathered(restore(folder, spread(like) if several else like), like))
    if saved == numbers.shapes():
        return state
    return dataclasses.replace(state, seen=jax.device_put(numbers.initial(), whole))


def _find_step(
    run: RunDirectory, source: Input, progress: Progress, clock: Clock, store: str | None
) -> int | None:
    for line in describe(run.changes):
        progress.say(f"changed since the last session: {line}")
    if removed := remove_incomplete(run.path):
        progress.say(f"removed the unfinished save of step {', '.join(map(str, removed))}")
    info = _newest_intact(run, progress, clock)
    if store is not None and (copied := _newer_of_store(run, Store(store), info, progress, clock)):
        info = copied
    if info is None:
        why = "" if run.is_new else f": {run.path} holds no complete checkpoint"
        progress.say(f"starting from scratch{why}")
        return None
    facts = read_facts(info.path)
    check_same_input(facts, source, run, progress)
    _check_same_plugins(facts, run, progress)
    progress.say(f"resuming from step {info.step}")
    return info.step


def go_on(
    batches: BatchIterator,
    input_state: Mapping[str, Any] | None,
    run: RunDirectory,
    progress: Progress,
) -> None:
    """Lets an input go on where a checkpoint says, None for its start.

    Raises:
        UserError: if that is no state of this input, and changes are not accepted.
    """
    if input_state is None:
        return
    try:
        batches.set_state(input_state)
    except (KeyError, TypeError, ValueError) as error:
        why = f"the checkpoint's place in the data is none of this input ({error!r})"
        if not run.accept_changes:
            raise UserError(
                f"{why}. Use the input that the run was started with, or begin this one at its "
                "start: --accept-changes"
            ) from error
        progress.say(f"{why}, which begins at its start")


def _newest_intact(run: RunDirectory, progress: Progress, clock: Clock) -> CheckpointInfo | None:
    info, damaged = newest_intact(run.path)
    for bad in damaged:
        _set_aside(bad, progress, clock)
    return info


def _newer_of_store(
    run: RunDirectory,
    store: Store,
    here: CheckpointInfo | None,
    progress: Progress,
    clock: Clock,
) -> CheckpointInfo | None:
    """Copies the newest intact checkpoint of the store, if it is newer than the one here."""
    for step in reversed(store.steps()):
        if here is not None and step <= here.step:
            return None
        progress.say(f"copying the checkpoint of step {step} from {store.url}")
        found = CheckpointInfo(step, store.download(step, run.path), "complete")
        problem = damage(found.path)
        if problem is None:
            return found
        _set_aside(found._replace(problem=problem), progress, clock)
    return None


def _set_aside(bad: CheckpointInfo, progress: Progress, clock: Clock) -> None:
    aside = set_aside(bad)
    damaged = f"the checkpoint of step {bad.step} is damaged: {bad.problem}"
    progress.say(damaged)
    clock.fault("checkpoint_damaged", damaged)
    progress.say(f"  it is kept as {aside.name} and an earlier one is used")


def check_same_input(
    facts: Mapping[str, Any], source: Input, run: RunDirectory, progress: Progress
) -> None:
    """Raises UserError if the input would not go on with the batches that a save expects."""
    now = json.loads(json.dumps(source.describe()))  # tuples become lists, as they did then
    differing = _differing(facts["input_description"], now)
    if run.accept_changes:
        for line in differing:
            progress.say(f"accepted change of the input: {line}")
    elif differing:
        shown = "".join(f"\n  {line}" for line in differing)
        raise UserError(
            f"the input is not the one that this run was started with:{shown}\n"
            "Resuming would train on other batches. Restore the data, or choose another --dir, or "
            "go on at the same place of the new data: --accept-changes"
        )


def _check_same_plugins(facts: Mapping[str, Any], run: RunDirectory, progress: Progress) -> None:
    """Refuses other versions. What comes or goes is told: a config that lacks it is not built."""
    before, now = facts["plugins"], get_registry().fingerprint()
    both = before.keys() & now.keys()
    exchanged = _differing(
        {name: before[name] for name in both}, {name: now[name] for name in both}
    )
    if exchanged and not run.accept_changes:
        shown = "".join(f"\n  {line}" for line in exchanged)
        raise UserError(
            f"plugins have other versions than when this run was trained:{shown}\nThey may compute "
            "other numbers. Install those versions, or go on with these: --accept-changes"
        )
    for line in _differing(before, now):
        progress.say(f"plugin changed: {line}")


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: {before.get(key)} -> {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
