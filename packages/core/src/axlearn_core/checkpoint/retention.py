"""Which checkpoints may go."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from axlearn_core.checkpoint.catalog import CheckpointInfo, checkpoints
from axlearn_core.checkpoint.manifest import MANIFEST


class Retention(NamedTuple):
    """What stays: what any of these rules keeps.

    Attributes:
        newest: so many, at least 1.
        every: all whose step is a multiple.
        best: so many of those that have the metric, measured at their own step.
        metric: such as "held_out/loss".
        highest: whether the highest value is the best.
    """

    newest: int
    every: int | None = None
    best: int = 0
    metric: str = ""
    highest: bool = False

    def outdated(self, steps: Sequence[int], facts: Callable[[int], Mapping[str, Any]]) -> set[int]:
        """Returns those of all complete checkpoints' steps that no rule keeps.

        Args:
            steps: in order.
            facts: returns what was saved as `run.json` with a step.
        """
        kept = set(steps[-self.newest :])
        if self.every is not None:
            kept |= {step for step in steps if step % self.every == 0}
        if self.best:
            measured = {step: measured_value(facts(step), step, self.metric) for step in steps}
            found = [(value, step) for step, value in measured.items() if value is not None]
            sign = -1 if self.highest else 1
            found.sort(key=lambda each: (sign * each[0], each[1]))
            kept |= {step for _, step in found[: self.best]}
        return set(steps) - kept


def remove_old(directory: Path, retention: Retention) -> None:
    """Deletes the complete checkpoints of a run that no rule keeps."""
    complete = {info.step: info for info in checkpoints(directory) if info.status == "complete"}
    for step in retention.outdated(list(complete), lambda step: saved_facts(complete[step])):
        remove(complete[step])


def remove(info: CheckpointInfo) -> None:
    """Deletes a checkpoint, its manifest first: a kill leaves no half that looks whole."""
    (info.path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(info.path)


def saved_facts(info: CheckpointInfo) -> dict[str, Any]:
    """Returns a checkpoint's `run.json`; nothing if it cannot be read."""
    try:
        facts: dict[str, Any] = json.loads((info.path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts


def measured_value(facts: Mapping[str, Any], step: int, metric: str) -> float | None:
    """Returns a metric ("held_out/loss") of a checkpoint, None if it is of an earlier step."""
    kind, _, name = metric.partition("/")
    try:
        if facts["measured"][kind] != step:
            return None
        value = float(facts["values"][kind][name])
    except (KeyError, TypeError, ValueError):  # saved by an older version
        return None
    return None if math.isnan(value) else value
