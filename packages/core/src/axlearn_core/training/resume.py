"""Which checkpoint a run goes on from, and whether it may."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from axlearn_core.checkpoint import (
    CheckpointInfo,
    newest_intact,
    remove_incomplete,
    set_aside,
    step_folder,
)
from axlearn_core.checkpoint.checkpointer import read_facts
from axlearn_core.errors import UserError
from axlearn_core.observe.progress import Progress
from axlearn_core.parallel import from_first
from axlearn_core.plugins import get_registry
from axlearn_core.training.input import Input
from axlearn_core.training.run_directory import RunDirectory, describe


def find_checkpoint(run: RunDirectory, source: Input, progress: Progress) -> CheckpointInfo | None:
    """Returns the checkpoint to go on from, None to begin, and says why.

    Process 0 looks: what killed saves have left is removed; damaged checkpoints are set aside.

    Raises:
        UserError: if the input would not go on with the batches that the checkpoint expects.
    """
    step = from_first(lambda: _find_step(run, source, progress))
    return None if step is None else CheckpointInfo(step, step_folder(run.path, step), "complete")


def _find_step(run: RunDirectory, source: Input, progress: Progress) -> int | None:
    for line in describe(run.changes):
        progress.say(f"changed since the last session: {line}")
    if removed := remove_incomplete(run.path):
        progress.say(f"removed the unfinished save of step {', '.join(map(str, removed))}")
    info, damaged = newest_intact(run.path)
    for bad in damaged:
        aside = set_aside(bad)
        progress.say(f"the checkpoint of step {bad.step} is damaged: {bad.problem}")
        progress.say(f"  it is kept as {aside.name} and an earlier one is used")
    if info is None:
        why = "" if run.is_new else f": {run.path} holds no complete checkpoint"
        progress.say(f"starting from scratch{why}")
        return None
    facts = read_facts(info.path)
    check_same_input(facts, source)
    for line in _differing(facts["plugins"], get_registry().fingerprint()):
        progress.say(f"plugin changed since step {info.step}: {line}")
    progress.say(f"resuming from step {info.step}")
    return info.step


def check_same_input(facts: Mapping[str, Any], source: Input) -> None:
    """Raises UserError if the input would not go on with the batches that a save expects."""
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
