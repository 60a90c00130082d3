"""What can happen to a run: each fault strikes one session after the other."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from axlearn_core.drill.points import POINTS, START, DrillError

Action = Literal["SIGKILL", "SIGSTOP", "SIGTERM", "second run", "hang", "cut"]
Whom = Literal["all", "first", "last"]


@dataclass(frozen=True)
class Strike:
    """What is done to one session of a run.

    Attributes:
        point: where in the code, by its name in `POINTS`, or "start".
        nth: at which passing of that point; None takes a random one of those of an undisturbed run.
        within: seconds, of which a random share passes between the point and the strike.
        action: a signal, a second run in the same directory, a thread that waits forever, or a cut
            of the host's network cable.
        whom: which processes it hits.
    """

    point: str
    nth: int | None = 1
    within: float = 0.0
    action: Action = "SIGKILL"
    whom: Whom = "all"

    def drawn(self, draw: random.Random, passes: Mapping[str, int], seconds: float) -> Strike:
        """Returns this strike with random numbers in the place of what is left open.

        Args:
            draw: the source of random numbers.
            passes: how often an undisturbed run passes each point.
            seconds: how long it takes.
        """
        nth = self.nth or draw.randint(1, max(1, passes.get(self.point, 1)))
        # What an undisturbed run compiles, the others find in their cache, and take half the time.
        within = seconds / 2 if self.point == START else self.within
        return dataclasses.replace(self, nth=nth, within=draw.uniform(0, within))


@dataclass(frozen=True)
class Fault:
    """One or more strikes on successive sessions of a run, which then goes on to its end.

    Attributes:
        name: what people call it.
        strikes: on the first session, the second, ...
        processes: the least that a run must have.
        on_hosts: whether each process needs a host of its own, see `drill.hosts`.
    """

    name: str
    strikes: tuple[Strike, ...]
    processes: int = 1
    on_hosts: bool = False


# Some of what a call has started takes a while: so many seconds cover it in small runs.
_WITHIN = {"inside a restore": 0.3, "during compile": 0.5, "while arrays are written": 0.05}
_WITHIN |= {"while an old checkpoint is removed": 0.002}


def _kill(point: str) -> Fault:
    strike = Strike(point, nth=None, within=_WITHIN.get(point, 0.0))
    if point == "inside a restore":  # there must be something to restore
        strikes = (Strike("after the manifest"), dataclasses.replace(strike, nth=1))
        return Fault(f"kill -9 {point}", strikes)
    return Fault(f"kill -9 {point}", (strike,))


def _terminate(point: str) -> Fault:
    (*before, last) = _kill(point).strikes
    last = dataclasses.replace(last, action="SIGTERM", whom="first")
    return Fault(f"SIGTERM {point}", (*before, last))


def _in_a_step(name: str, action: Action, whom: Whom, processes: int) -> Fault:
    strike = Strike("after a step", nth=None, action=action, whom=whom)
    return Fault(name, (strike,), processes, on_hosts=action == "cut")


_TERMINATED = (
    "as the directory is opened",
    "inside a restore",
    "during compile",
    "between prefetch and step",
    "while arrays are written",
    "before the manifest",
)
FAULTS: tuple[Fault, ...] = (
    Fault("kill -9 at a random time", (Strike(START),)),
    *map(_kill, POINTS),
    *map(_terminate, _TERMINATED),
    _in_a_step("SIGTERM after a step", "SIGTERM", "last", processes=1),
    _in_a_step("two runs in one directory", "second run", "first", processes=1),
    _in_a_step("a step that hangs", "hang", "last", processes=1),
    _in_a_step("loss of one process", "SIGKILL", "last", processes=2),
    _in_a_step("hang of one process", "SIGSTOP", "last", processes=2),
    _in_a_step("loss of the coordinator", "SIGKILL", "first", processes=2),
    _in_a_step("a network cable that is cut", "cut", "last", processes=2),
)


def chosen(words: Sequence[str], processes: int) -> list[Fault]:
    """Returns the faults whose names begin with one of the words; all without words.

    Raises:
        DrillError: for a word that no fault begins with, or a fault that needs more processes.
    """
    found = []
    for word in words:
        matches = [fault for fault in FAULTS if fault.name.startswith(word)]
        if not matches:
            names = "".join(f"\n  {fault.name}" for fault in FAULTS)
            raise DrillError(f"no fault begins with {word!r}; there are:{names}")
        if all(fault.processes > processes for fault in matches):
            raise DrillError(f"{matches[0].name!r} needs --processes {matches[0].processes}")
        found += matches
    return [f for f in FAULTS if f.processes <= processes and (not words or f in found)]
