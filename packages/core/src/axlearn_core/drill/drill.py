"""Runs an experiment undisturbed, then once for each fault, and compares."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from axlearn_core.drill.faults import Fault, Strike
from axlearn_core.drill.points import DrillError
from axlearn_core.drill.session import (
    Session,
    codes_in_words,
    run_session,
    seconds_to_restore,
    steps_replayed,
)
from axlearn_core.drill.verdict import differences
from axlearn_core.errors import EXIT_HUNG
from axlearn_core.launch import Job
from axlearn_core.launch.local import Local, Places

UNDISTURBED = "undisturbed"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a fault did to a run.

    Attributes:
        fault: its name.
        strikes: what was done, with what was drawn at random.
        happened: in words, how the session ended that was struck last.
        detect: seconds from a strike until all processes had left; the longest of the strikes.
        restore: seconds from then to the first step of the next session; the longest.
        replayed: steps that were made again, in all.
        differences: from the undisturbed run: metrics and arrays.
        sources: for each restore its step, and how many processes took their part from where.
        struck: whether the run came by the points of the strikes.
        problem: what should have happened and did not, or empty.
    """

    fault: str
    strikes: list[Strike]
    happened: str
    detect: float | None
    restore: float | None
    replayed: int
    differences: list[str]
    sources: list[dict[str, int]]
    struck: bool
    problem: str

    @property
    def survived(self) -> bool:
        return not self.differences and not self.problem


class Drill:
    """Runs of one experiment, which differ in what is done to them.

    Args:
        experiment: its name.
        overrides: `path=value` words.
        directory: for all runs; it must not hold anything yet.
        local: starts the processes.
        seed: of all that is random.
        limit: seconds for a session, after which it counts as hung.
    """

    def __init__(
        self,
        experiment: str,
        overrides: Sequence[str],
        directory: Path,
        local: Local,
        *,
        seed: int = 0,
        limit: float = 600,
    ):
        if directory.exists() and any(directory.iterdir()):
            raise DrillError(f"{directory} is not empty. Choose another --dir, or remove it")
        self._job = Job(experiment, tuple(overrides), directory.absolute())
        self._local = local
        self._seed = seed
        self._limit = limit
        self._logs = directory / "logs"
        self._passes: dict[str, int] = {}
        self._seconds = 0.0

    def undisturbed(self) -> float:
        """Makes the run that all others are compared with, and returns its seconds.

        Raises:
            DrillError: if it fails.
        """
        job = self._of(UNDISTURBED)
        session = self._session(job, None, Places(self._local.config.processes), 0)
        if any(session.ended.codes):
            said = "".join(f"\n  {line}" for line in session.ended.last_lines)
            raise DrillError(f"the undisturbed run failed:{said}")
        (self._passes, *_) = (event["counts"] for event in session.of("passes"))
        times = [event["time"] for events in session.events for event in events]
        self._seconds = max(times) - min(times)
        return self._seconds

    def run(self, fault: Fault, number: int = 0) -> Outcome:
        """Makes a run, strikes it, lets it go on to its end, and compares it.

        Its files stay if it did not survive.

        Args:
            fault: what is done.
            number: of the repetition: each draws other random numbers.
        """
        name = re.sub(r"[^a-z0-9]+", "-", f"{fault.name} {number}".lower()).strip("-")
        draw = random.Random(f"{self._seed} {name}")
        strikes = [s.drawn(draw, self._passes, self._seconds) for s in fault.strikes]
        job = self._of(name)
        sessions = self._sessions(job, strikes, on_hosts=fault.on_hosts)
        pairs = list(pairwise(sessions))
        outcome = Outcome(
            fault=fault.name,
            strikes=strikes,
            happened=_happened(sessions[-2]),
            detect=_longest(session.detected for session in sessions),
            restore=_longest(seconds_to_restore(*pair) for pair in pairs),
            replayed=sum(steps_replayed(*pair) for pair in pairs),
            differences=[] if any(sessions[-1].ended.codes) else self._differences(job),
            sources=_sources(job.directory / "restores.jsonl"),
            struck=all(session.of("struck") for session in sessions[:-1]),
            problem="; ".join(_problems(sessions, strikes)),
        )
        if outcome.survived:
            shutil.rmtree(job.directory)
        return outcome

    def _sessions(self, job: Job, strikes: Sequence[Strike], *, on_hosts: bool) -> list[Session]:
        """Starts a run once for each strike, and once more to its end."""
        cfg = self._local.config
        places = Places(cfg.processes, cfg.spares)
        sessions: list[Session] = []
        for strike in (*strikes, None):
            session = self._session(job, strike, places, len(sessions), on_hosts=on_hosts)
            sessions.append(session)
            failed = sessions[-1].ended.failed
            if failed is not None:
                places.replace(failed)
        return sessions

    def _of(self, name: str) -> Job:
        return dataclasses.replace(self._job, directory=self._job.directory / name)

    def _differences(self, job: Job) -> list[str]:
        return differences(job.directory, self._of(UNDISTURBED).directory)

    def _session(
        self,
        job: Job,
        strike: Strike | None,
        places: Places,
        number: int,
        *,
        on_hosts: bool = False,
    ) -> Session:
        logs = self._logs / job.directory.name / str(number)
        session = run_session(
            job, self._local, places, strike, logs, self._limit, on_hosts=on_hosts
        )
        if session.ended.stopped:
            raise KeyboardInterrupt
        return session


def _longest(seconds: Iterable[float | None]) -> float | None:
    return max((s for s in seconds if s is not None), default=None)


def _sources(path: Path) -> list[dict[str, int]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _happened(session: Session) -> str:
    if second := session.of("second run"):
        return f"the second: code {second[0]['code']}"
    codes = codes_in_words(session.ended.codes)
    saved = [str(event["step"]) for event in session.of("saved")[-1:]]
    clean = not any(session.ended.codes)
    return f"{codes}, saved step {saved[0]}" if clean and saved else codes


def _problems(sessions: Sequence[Session], strikes: Sequence[Strike]) -> Iterator[str]:
    for session, strike in zip(sessions, strikes, strict=False):
        codes = session.ended.codes
        if not session.of("struck"):
            continue
        if strike.action == "SIGTERM" and any(codes):
            yield f"SIGTERM ended it with {codes_in_words(codes)}"
        elif strike.action == "second run" and not _refused(session):
            yield "the second run was not refused"
        elif strike.action == "hang" and EXIT_HUNG not in codes:
            yield f"no watchdog ended it: {codes_in_words(codes)}"
        elif strike.action in ("SIGKILL", "SIGSTOP", "cut") and 0 in codes:
            yield f"a process went on: {codes_in_words(codes)}"
    last = sessions[-1].ended
    if any(last.codes):
        said = "".join(f"\n    {line}" for line in last.last_lines)
        yield f"it did not go on: {codes_in_words(last.codes)}{said}"


def _refused(session: Session) -> bool:
    seconds = session.of("second run")
    return all(event["code"] == 1 and "is training in" in event["said"] for event in seconds)
