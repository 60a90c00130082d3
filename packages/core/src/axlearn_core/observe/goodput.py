"""Where the time of a run went: every second of all its sessions in exactly one category.

Goodput is the share of the wall-clock time in which steps were made that the run has kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

Phase = Literal["init", "compile", "data_wait", "step", "eval", "checkpoint"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
CATEGORIES: Final = (*PHASES, "lost_work", "recovery", "idle")

Event = Mapping[str, Any]


class Account(NamedTuple):
    """The time of a run, from its first session's start to its last event.

    Attributes:
        seconds: by category, in the order of `CATEGORIES`.
    """

    seconds: dict[str, float]

    @property
    def wall(self) -> float:
        return sum(self.seconds.values())

    @property
    def goodput(self) -> float:
        """The share of steps that were kept in all of the time."""
        return self.seconds["step"] / self.wall if self.wall > 0 else 0.0


def account(events: Sequence[Event]) -> Account:
    """Adds up the sessions of a run.

    What a session measured by phase stays as it is, but for:

    - `lost_work`: all that it did after the step from which a later session went on;
    - `recovery`: its start (`init` and `compile`), if the session before was killed or failed;
    - `idle`: the time to the next session. After a run was complete there is none: that somebody
      raised `max_step` a week later cost nothing.

    A session that was killed ends with its last event.
    """
    seconds = dict.fromkeys(CATEGORIES, 0.0)
    by_session = [list(group) for _, group in itertools.groupby(events, lambda e: e["session"])]
    kept: float | None = None  # the earliest step that a later session went on from
    for number, session in reversed(list(enumerate(by_session))):
        before = by_session[number - 1] if number else None
        end = session[-1]["seconds"]
        mark = end if kept is None else _kept(session, kept)["seconds"]
        crashed = before is not None and not _ended_well(before)
        for phase in PHASES:
            start = phase in ("init", "compile")
            seconds["recovery" if crashed and start else phase] += mark.get(phase, 0.0)
            seconds["lost_work"] += end.get(phase, 0.0) - mark.get(phase, 0.0)
        if before is not None and before[-1].get("reason") != "completed":
            began = session[0]["time"] - sum(session[0]["seconds"].values())
            seconds["idle"] += max(0.0, began - before[-1]["time"])
        from_step = [event["from_step"] for event in session if event["event"] == "resumed"]
        kept = min([*from_step, *([] if kept is None else [kept])], default=None)
    return Account(seconds)


def _ended_well(session: Sequence[Event]) -> bool:
    return not str(session[-1].get("reason", "failed")).startswith("failed")


def _kept(session: Sequence[Event], step: float) -> Event:
    """Returns the reading of the clock when the last step was done that was not made again."""
    if _ended_well(session) and session[-1]["step"] <= step:
        return session[-1]
    marks = [e for e in session if e["event"] in ("compiled", "checkpoint_started")]
    if not marks:  # no step was made
        return session[-1]
    return next((e for e in reversed(marks) if e["step"] <= step), marks[0])
