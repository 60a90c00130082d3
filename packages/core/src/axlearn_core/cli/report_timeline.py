"""A run's sessions over the time, with what happened in them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from html import escape

from axlearn_core.cli.page import details, key, table
from axlearn_core.observe.history import Event, Run
from axlearn_core.observe.progress import duration
from axlearn_core.observe.sessions import Session, describe, is_fault, is_remarkable, sessions

_MARKS = 300  # of a kind; more of them would touch
_LISTED = 500  # events in the table
_OPEN = 15  # a table with fewer is open from the start
_BAD = ("failed", "killed", "silent")


def timeline(runs: Sequence[Run], names: Sequence[str], now: float) -> str:
    """Returns the section; nothing for runs that recorded no events."""
    told = {
        name: (run, found)
        for name, run in zip(names, runs, strict=True)
        if (found := sessions(run.events, now))
    }
    if not told:
        return ""
    longest = max(found[-1].ended - found[0].began for _, found in told.values()) or 1.0
    tracks = "".join(
        f"<p>{escape(name) if len(runs) > 1 else ''}</p>{_track(run, found, longest)}"
        for name, (run, found) in told.items()
    )
    ends = f"<div class='ends soft'><span>start</span><span>{duration(longest)}</span></div>"
    listed = "".join(
        _tables(f"{name}: " if len(runs) > 1 else "", run, found)
        for name, (run, found) in told.items()
    )
    return f"<h2>Sessions and events</h2>{tracks}{ends}{_LEGEND}{listed}"


_LEGEND = (
    f"<p class='legend soft'><span>{key('a')}session</span>"
    f"<span>{key('bad')}killed or failed at its end</span>"
    "<span><i class=tick></i>checkpoint</span><span><i class=spot></i>evaluation</span>"
    "<span><b class=bad>◆</b> fault</span></p>"
)


def _track(run: Run, found: Sequence[Session], longest: float) -> str:
    began = found[0].began

    def share(when: float) -> str:
        return f"{(when - began) / longest:.2%}"

    bars = "".join(
        f"<i class='session{' bad' * (each.state in _BAD)}' style='left:{share(each.began)};"
        f"width:{(each.ended - each.began) / longest:.2%}' "
        f"title='{escape(_title(each))}'></i>"
        for each in found
    )
    marks = "".join(
        f"<i class={kind} style='left:{share(event['time'])}' "
        f"title='{escape(describe(event))}'>{'◆' * (kind == 'fault')}</i>"
        for kind, event in _marks(run.events)
    )
    faults = sum(map(is_fault, run.events))
    label = f"{len(found)} sessions, {faults} faults; the tables below tell more"
    return f"<div class=track role=img aria-label='{label}'>{bars}{marks}</div>"


def _marks(events: Sequence[Event]) -> Iterator[tuple[str, Event]]:
    kinds = {
        "saved": [event for event in events if event["event"] == "checkpoint_saved"],
        "evaluated": [event for event in events if event["event"] == "evaluated"],
        "fault": [event for event in events if is_fault(event)],
    }
    for kind, marked in kinds.items():
        for event in marked[:: len(marked) // _MARKS + 1]:
            yield kind, event


def _title(session: Session) -> str:
    steps = f"steps {session.first_step} to {session.last_step}"
    return f"session {session.number}: {steps}, {session.state} {session.detail}".rstrip()


def _tables(prefix: str, run: Run, found: Sequence[Session]) -> str:
    rows = [
        (
            str(each.number),
            _clock(each.began),
            duration(each.ended - each.began),
            f"{each.first_step} to {each.last_step}",
            f"{each.state} {each.detail}".rstrip(),
            each.machine,
        )
        for each in found
    ]
    header = ("session", "began", "took", "steps", "ended", "machine")
    shown = details(
        f"{prefix}sessions ({len(found)})",
        table(header, rows, kinds="nwnwtw"),
        open=len(found) <= _OPEN,
    )
    remarkable = [event for event in run.events if is_remarkable(event)]
    faults = [event for event in remarkable if is_fault(event)]
    if faults:
        shown += details(f"{prefix}faults ({len(faults)})", _listed(faults), open=True)
    newest = f", the newest {_LISTED}" * (len(remarkable) > _LISTED)
    summary = f"{prefix}events ({len(remarkable)}{newest})"
    return shown + details(summary, _listed(remarkable))


def _listed(events: Sequence[Event]) -> str:
    rows = [
        (_clock(event["time"]), str(event["step"]), describe(event)) for event in events[-_LISTED:]
    ]
    return table(("time", "step", "what happened"), rows, kinds="wnt")


def _clock(when: float) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(when))
