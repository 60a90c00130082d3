"""One start of a run under drill, to its end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from signal import Signals
from typing import Any, NamedTuple

from axlearn_core.drill.child import PLAN
from axlearn_core.drill.faults import Strike
from axlearn_core.drill.hosts import host_name, hosts
from axlearn_core.drill.log import read_log
from axlearn_core.hardware.contract import COORDINATOR, PROCESS_COUNT, PROCESS_INDEX
from axlearn_core.launch import Job
from axlearn_core.launch.local import Local, Places, free_port
from axlearn_core.launch.supervisor import Ended, supervise

# The longest that a loss may stay unnoticed, in seconds, if the environment says nothing else.
_HEARTBEAT = {"AXLEARN_HEARTBEAT_TIMEOUT": "10"}
_PORT = 1234  # of a host that has no other program


class Session(NamedTuple):
    """How a start of a run ended.

    Attributes:
        ended: how its processes ended.
        events: what each process has logged, the oldest first.
    """

    ended: Ended
    events: list[list[dict[str, Any]]]

    def of(self, event: str) -> list[dict[str, Any]]:
        """Returns the events of one kind, of all processes."""
        return [found for events in self.events for found in events if found["event"] == event]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.of("step")

    @property
    def end(self) -> float:
        """When the last process had ended."""
        return max(self.ended.times)

    @property
    def detected(self) -> float | None:
        """Seconds from the strike until the second run, or all that SIGSTOP left alone, ended."""
        struck: list[float] = [event["time"] for event in self.of("struck")]
        if not struck:
            return None
        left = [event["time"] for event in self.of("second run")] or [
            time
            for time, events in zip(self.ended.times, self.events, strict=True)
            if not any(event.get("action") == "SIGSTOP" for event in events)
        ]
        detected: float = max(left) - min(struck)
        return detected


def run_session(
    job: Job,
    local: Local,
    places: Places,
    strike: Strike | None,
    logs: Path,
    limit: float,
    *,
    on_hosts: bool = False,
) -> Session:
    """Starts a run's processes and waits until they have ended.

    Args:
        job: the run.
        local: starts its processes.
        places: where on this host.
        strike: what is done to it.
        logs: a folder for the processes' logs, which is made.
        limit: seconds after which processes that are left are killed.
        on_hosts: whether each place is a host of its own.
    """
    logs.mkdir(parents=True)
    count = local.config.processes
    whom = {"first": 0, "last": count - 1}.get(strike.whom) if strike else None
    files = [logs / f"{index}.jsonl" for index in range(count)]
    environments = []
    for index, variables in enumerate(local.variables(places, free_port())):
        own = strike if strike and whom in (None, index) else None
        plan = {"log": str(files[index]), "strike": dataclasses.asdict(own) if own else None}
        own_variables = {**_HEARTBEAT, **os.environ, **variables, PLAN: json.dumps(plan)}
        environments.append(own_variables)
        if count == 1:  # alone, it need not join others
            for name in (COORDINATOR, PROCESS_COUNT, PROCESS_INDEX):
                del environments[index][name]
    command = [sys.executable, "-m", "axlearn_core.drill.child", *job.words]
    total = count + local.config.spares
    with hosts(total) if on_hosts else contextlib.nullcontext() as made:
        if made is not None:
            for each in environments:
                each[COORDINATOR] = f"{host_name(places.taken[0])}:{_PORT}"
        ended = supervise(
            command,
            environments,
            shown="none",
            limit=limit,
            within=lambda index: made.within(places.taken[index]) if made is not None else (),
        )
    return Session(ended, [read_log(file) for file in files])


def steps_replayed(before: Session, after: Session) -> int:
    """Returns how many steps that were done the next session made again."""
    if not before.steps or not after.steps:
        return 0
    last, first = int(before.steps[-1]["step"]), int(after.steps[0]["step"])
    return max(0, last - first + 1)


def seconds_to_restore(before: Session, after: Session) -> float | None:
    """Returns the time from the end of a session to the first step of the next."""
    return after.steps[0]["time"] - before.end if after.steps else None


def codes_in_words(codes: Sequence[int]) -> str:
    """Writes exit codes, such as "code 1, SIGKILL"."""
    return ", ".join(f"code {code}" if code >= 0 else Signals(-code).name for code in codes)
