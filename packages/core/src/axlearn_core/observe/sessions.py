"""The sessions of a run: each time that processes trained it, and how that ended."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from axlearn_core.observe.history import Event, Run, number, printable
from axlearn_core.observe.progress import duration, size

_SILENT = 60.0  # seconds without a sign of life; beats come every ten
_OVER = ("completed", "preempted", "interrupted", "failed")


@dataclass(frozen=True)
class Session:
    """From a start to an end.

    Attributes:
        state: running, silent (no sign of life for a minute), killed, or how it ended: completed,
            preempted, interrupted, failed.
        detail: why it failed, or what was heard last.
    """

    number: int
    events: Sequence[Event]
    state: str
    detail: str

    @property
    def began(self) -> float:
        """When its process started, which is before it could write."""
        first = self.events[0]
        return float(first["time"] - sum(first["seconds"].values()))

    @property
    def ended(self) -> float:
        return float(self.events[-1]["time"])

    @property
    def first_step(self) -> int:
        """The step that it went on after; 0 if it began."""
        resumed = (event["from_step"] for event in self.events if event["event"] == "resumed")
        return int(next(resumed, self.events[0]["step"]))

    @property
    def last_step(self) -> int:
        return int(self.events[-1]["step"])

    @property
    def machine(self) -> str:
        """Where it ran: `8 x cpu, 2 processes, node0`."""
        start = self.events[0]
        processes = start.get("processes", 1)
        words = (
            str(start.get("devices", "")),
            f"{processes} processes" if processes != 1 else "",
            str(start.get("host", "")),
        )
        return printable(", ".join(word for word in words if word))


def sessions(events: Sequence[Event], now: float) -> list[Session]:
    """Divides events, oldest first, into sessions; `now` tells whether the last one is alive."""
    grouped = [list(group) for _, group in itertools.groupby(events, key=lambda e: e["session"])]
    return [
        Session(group[0]["session"], group, *_state(group, now if group is grouped[-1] else None))
        for group in grouped
    ]


def _state(events: Sequence[Event], now: float | None) -> tuple[str, str]:
    newest = events[-1]
    finished = [event for event in events if event["event"] == "session_finished"]
    if finished:
        state, _, detail = printable(finished[-1].get("reason", "finished")).partition(": ")
        return state, detail
    if now is None:
        return "killed", f"during {_phase(newest)}"
    silence = now - newest["time"]
    if silence < _SILENT:
        return "running", _phase(newest)
    return "silent", f"for {duration(silence)} during {_phase(newest)}: killed, or stuck"


def _phase(event: Event) -> str:
    return printable(event["phase"]).replace("_", " ")


def state_of(run: Run, now: float) -> tuple[str, str]:
    """Returns the state of a run and a detail, as of its last session.

    A run without events is too old to tell more than how far it came.
    """
    found = sessions(run.events, now)
    if found:
        return found[-1].state, found[-1].detail
    done = run.max_step is not None and run.step >= run.max_step
    return ("completed", "") if done else ("unfinished", "no events were recorded")


def is_over(run: Run, now: float) -> bool:
    """Whether the run said that it ends."""
    return state_of(run, now)[0] in _OVER


def is_fault(event: Event) -> bool:
    """Whether something went wrong."""
    ended = str(event.get("reason", "")) if event["event"] == "session_finished" else ""
    return event["event"] == "fault" or ended.startswith("failed")


def is_remarkable(event: Event) -> bool:
    """Whether it says more than that time passes, or what another event says again."""
    return event["event"] not in ("beat", "checkpoint_started")


def describe(event: Event) -> str:
    """Says in words what happened."""
    kind = event["event"]
    tell = _WORDS.get(kind)
    return printable(tell(event) if tell else kind.replace("_", " "))


def _started(event: Event) -> str:
    on = f"session {event['session']} started on {event.get('devices', 'unknown devices')}"
    changes = event.get("changes")
    if isinstance(changes, list) and changes:
        return f"{on}; changed: {', '.join(map(str, changes))}"
    return on


def _resumed(event: Event) -> str:
    step = event["from_step"]
    return f"resumed from step {step}" if step else "started from scratch"


def _compiled(event: Event) -> str:
    seconds = _finite(event, "trace_seconds") or 0.0
    seconds += _finite(event, "compile_seconds") or 0.0
    memory = _finite(event, "memory_bytes")
    needs = f", needs {size(memory)} per device" if memory else ""
    return f"compiled in {seconds:.1f} s{needs}"


def _evaluated(event: Event) -> str:
    loss = number(event.get("loss"))
    shown = f": loss {loss:.4f}" if loss is not None else ""
    return f"evaluated {event.get('name', '')}{shown}"


def _finite(event: Event, name: str) -> float | None:
    value = number(event.get(name))
    return value if value is not None and math.isfinite(value) else None


def _fault(event: Event) -> str:
    kind = str(event.get("kind", "fault")).replace("_", " ")
    return f"{kind}: {event.get('message', '')}"


_WORDS: Mapping[str, Callable[[Event], str]] = {
    "session_started": _started,
    "resumed": _resumed,
    "compiled": _compiled,
    "evaluated": _evaluated,
    "fault": _fault,
    "checkpoint_saved": lambda event: f"saved a checkpoint of step {event.get('saved_step', '')}",
    "profiled": lambda event: f"profiled: {event.get('what', '')} in {event.get('path', '')}",
    "session_finished": lambda event: f"session ended: {event.get('reason', '')}",
}
