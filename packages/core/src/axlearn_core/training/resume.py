"""Which checkpoint a run goes on from, and whether it may."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from axlearn_core.checkpoint import (
    CheckpointInfo,
    damage,
    newest_intact,
    remove_incomplete,
    set_aside,
    step_folder,
)
from axlearn_core.checkpoint.checkpointer import read_facts
from axlearn_core.checkpoint.store import Store
from axlearn_core.errors import UserError
from axlearn_core.observe.progress import Progress
from axlearn_core.parallel import from_first
from axlearn_core.plugins import get_registry
from axlearn_core.training.input import Input
from axlearn_core.training.run_directory import RunDirectory, describe


def find_checkpoint(
    run: RunDirectory, source: Input, progress: Progress, *, store: str | None = None
) -> CheckpointInfo | None:
    """Returns the checkpoint to go on from, None to begin, and says why.

    Process 0 looks: what killed saves have left is removed; damaged checkpoints are set aside; a
    newer one of the store is copied to the run's directory.

    Raises:
        UserError: if the input would not go on with the batches that the checkpoint expects.
    """
    step = from_first(lambda: _find_step(run, source, progress, store))
    return None if step is None else CheckpointInfo(step, step_folder(run.path, step), "complete")


def _find_step(
    run: RunDirectory, source: Input, progress: Progress, store: str | None
) -> int | None:
    for line in describe(run.changes):
        progress.say(f"changed since the last session: {line}")
    if removed := remove_incomplete(run.path):
        progress.say(f"removed the unfinished save of step {', '.join(map(str, removed))}")
    info = _newest_intact(run, progress)
    if store is not None and (copied := _newer_of_store(run, Store(store), info, progress)):
        info = copied
    if info is None:
        why = "" if run.is_new else f": {run.path} holds no complete checkpoint"
        progress.say(f"starting from scratch{why}")
        return None
    facts = read_facts(info.path)
    _check_same_input(facts, source)
    for line in _differing(facts["plugins"], get_registry().fingerprint()):
        progress.say(f"plugin changed since step {info.step}: {line}")
    progress.say(f"resuming from step {info.step}")
    return info.step


def _newest_intact(run: RunDirectory, progress: Progress) -> CheckpointInfo | None:
    info, damaged = newest_intact(run.path)
    for bad in damaged:
        _set_aside(bad, progress)
    return info


def _newer_of_store(
    run: RunDirectory, store: Store, here: CheckpointInfo | None, progress: Progress
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
        _set_aside(found._replace(problem=problem), progress)
    return None


def _set_aside(bad: CheckpointInfo, progress: Progress) -> None:
    aside = set_aside(bad)
    progress.say(f"the checkpoint of step {bad.step} is damaged: {bad.problem}")
    progress.say(f"  it is kept as {aside.name} and an earlier one is used")


def _check_same_input(facts: Mapping[str, Any], source: Input) -> None:
    now = json.loads(json.dumps(source.describe()))  # tuples become lists, as they did then
    if differing := _differing(facts["input_description"], now):
        shown = "".join(f"\n  {line}" for line in differing)
        raise UserError(
            f"the input is not the one that this run was started with:{shown}\n"
            "Resuming would train on other batches. Restore the data, or choose another --dir"
        )


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: {before.get(key)} -> {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
