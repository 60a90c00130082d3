"""Which checkpoints may go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
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

    def outdated(self, complete: Sequence[CheckpointInfo]) -> list[CheckpointInfo]:
        """Returns those of a run's complete checkpoints, by step, that no rule keeps."""
        kept = {info.step for info in complete[-self.newest :]}
        if self.every is not None:
            kept |= {info.step for info in complete if info.step % self.every == 0}
        if self.best:
            kept |= set(self._best(complete))
        return [info for info in complete if info.step not in kept]

    def _best(self, complete: Sequence[CheckpointInfo]) -> list[int]:
        measured = {info.step: measured_value(info, self.metric) for info in complete}
        found = [(value, step) for step, value in measured.items() if value is not None]
        sign = -1 if self.highest else 1
        return [step for _, step in sorted(found, key=lambda each: (sign * each[0], each[1]))][
            : self.best
        ]


def remove_old(directory: Path, retention: Retention) -> None:
    """Deletes the complete checkpoints of a run that no rule keeps."""
    complete = [info for info in checkpoints(directory) if info.status == "complete"]
    for info in retention.outdated(complete):
        remove(info)


def remove(info: CheckpointInfo) -> None:
    """Deletes a checkpoint, its manifest first: a kill leaves no half that looks whole."""
    (info.path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(info.path)


def measured_value(info: CheckpointInfo, metric: str) -> float | None:
    """Returns a metric ("held_out/loss") of a checkpoint, None if it is of an earlier step."""
    try:
        facts: dict[str, Any] = json.loads((info.path / "run.json").read_text(encoding="utf-8"))
        kind, _, name = metric.partition("/")
        if facts["measured"][kind] != info.step:
            return None
        value = float(facts["values"][kind][name])
    except (OSError, ValueError, KeyError, TypeError):  # damaged, or saved by an older version
        return None
    return value if value == value else None  # NaN is no best
