"""What observers of a run are told: small frozen records of plain Python values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """The trainer is built and restored; the first step comes next.

    Attributes:
        directory: of the run.
        experiment: its name, or "(python)" where Python code built the trainer.
        max_step: the step at which the run is complete.
    """

    directory: Path
    experiment: str
    max_step: int


@dataclass(frozen=True)
class StepCompleted:
    """The values of a step have arrived on the host (the loop does not wait for the others).

    Attributes:
        step: counted from 1.
        values: `loss`, `gradient_norm`, and what the model and the learner add, by name.
    """

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class EvalCompleted:
    """An evaluation is done.

    Attributes:
        step: the last one that the evaluated parameters have seen.
        name: of the evaluation, as the trainer's config names it.
        values: `loss` in nats per target token, `tokens`, for text `loss_per_character`.
    """

    step: int
    name: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is complete on disk.

    Attributes:
        step: the one after which it was taken.
        path: its folder, which a later checkpoint may remove (`checkpoint.keep`).
    """

    step: int
    path: Path


@dataclass(frozen=True)
class RunFinished:
    """No further step will be made.

    Attributes:
        step: the last one whose values have arrived; where a run failed, one or two later steps may
            have been made.
        reason: "completed", "preempted" (SIGTERM), "interrupted" (Ctrl-C), or "failed: " and why.
    """

    step: int
    reason: str
