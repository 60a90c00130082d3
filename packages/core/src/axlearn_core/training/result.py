"""How a run ended."""

from __future__ import annotations

from typing import NamedTuple


class Result(NamedTuple):
    """How a run ended.

    Attributes:
        step: the last completed step.
        reason: "completed", "preempted" (SIGTERM) or "interrupted" (Ctrl-C).
        values: the newest values by kind: "train", and each evaluation's name.
    """

    step: int
    reason: str
    values: dict[str, dict[str, float]]
