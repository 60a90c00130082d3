"""What observers of a run are told: small frozen records of plain Python values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """The trainer is built and restored; the first step comes next."""

    directory: Path
    experiment: str
    max_step: int


@dataclass(frozen=True)
class StepCompleted:
    """The values of a step have arrived on the host (the loop does not wait for the others)."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class EvalCompleted:
    """An evaluation is done."""

    step: int
    name: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is complete on disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class RunFinished:
    """No further step will be made."""

    step: int
    reason: str  # "completed", "preempted", "interrupted" or "failed: <what>"
