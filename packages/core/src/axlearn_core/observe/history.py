"""A run as its directory tells it, while it trains or later. Needs neither jax nor a device."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axlearn_core.checkpoint import CheckpointInfo, checkpoints
from axlearn_core.observe.series import Series
from axlearn_core.observe.tail import Tail

_FILES = ("metrics", "performance", "events")
_MOST_NAMES = 2000  # metrics of a run; a file that has more is not one of a run
_MOST_BEATS = 1000  # events that only say that time passes
_MOST_EVENTS = 20_000
_LARGEST_STEP = 1 << 53
_LATEST = 1e11  # seconds since 1970; clocks that go further are broken

Curves = dict[str, Series]
Event = Mapping[str, Any]  # see `observe.events`


@dataclass(frozen=True)
class Run:
    """What a run's directory held when it was read.

    Attributes:
        config: the text of every value by path, as the newest session had it.
        changes: `path: base -> value (where it was set)` lines, against the experiment; None for a
            run that did not record them.
        versions: of the plugins and of what they stand on, by distribution.
        train: the curves of the training steps by name; `performance` likewise.
        evaluations: curves by evaluation and name.
        events: oldest first; those that only tell the time are thinned out.
        remarks: what could not be read, in sentences.
    """

    directory: Path
    experiment: str
    config: Mapping[str, str]
    changes: Sequence[str] | None
    versions: Mapping[str, str]
    train: Curves
    performance: Curves
    evaluations: Mapping[str, Curves]
    events: Sequence[Event]
    checkpoints: Sequence[CheckpointInfo]
    remarks: Sequence[str]

    @property
    def step(self) -> int:
        """The newest step that anything tells of."""
        loss = self.train.get("loss")
        newest = self.events[-1]["step"] if self.events else 0
        return max(loss.steps[-1] if loss else 0, newest)

    @property
    def max_step(self) -> int | None:
        """The step at which the run ends, where that is known."""
        text = self.config.get("max_step", "")
        return int(text) if text.isdecimal() and len(text) < 16 else None


def is_run(directory: Path) -> bool:
    """Whether a directory holds anything of a run."""
    return (
        any((directory / f"{name}.jsonl").is_file() for name in _FILES)
        or (directory / "run.json").is_file()
    )


class RunReader:
    """Reads a run again and again; each time only what was added."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._tails = {name: Tail(directory / f"{name}.jsonl") for name in _FILES}
        self._metrics, self._performance, self._events = _Metrics(), _Curves(), _Events()

    def read(self) -> Run:
        """Returns the run as it is now."""
        if self._tails["metrics"].restarted():
            self._metrics = _Metrics()
        if self._tails["performance"].restarted():
            self._performance = _Curves()
        if self._tails["events"].restarted():
            self._events = _Events()
        for record in self._tails["metrics"].records():
            self._metrics.add(record)
        for record in self._tails["performance"].records():
            self._performance.add(record)
        for record in self._tails["events"].records():
            self._events.add(record)
        facts, problem = _facts(self.directory / "run.json")
        return Run(
            directory=self.directory,
            experiment=printable(facts.get("experiment", "(unknown)")),
            config=_texts(facts.get("config")),
            changes=_lines(facts.get("changes")),
            versions={**_texts(facts.get("versions")), **_texts(facts.get("plugins"))},
            train=self._metrics.train.by_name,
            performance=self._performance.by_name,
            evaluations=self._metrics.evaluations,
            events=self._events.all(),
            checkpoints=_checkpoints(self.directory),
            remarks=[*problem, *self._remarks()],
        )

    def _remarks(self) -> Iterator[str]:
        added = (
            ("metrics", self._metrics.damaged),
            ("performance", self._performance.damaged),
            ("events", self._events.damaged),
        )
        for name, damaged in added:
            tail = self._tails[name]
            if lines := tail.damaged + damaged:
                yield f"{name}.jsonl: {lines} damaged line{'s' * (lines != 1)} left out"
            if tail.cut:
                yield f"{name}.jsonl: its last line has no end (being written, or cut by a kill)"
        if left := self._metrics.left_out + self._performance.left_out:
            yield f"{left} values left out: a run has at most {_MOST_NAMES} metrics"
        if self._events.dropped:
            yield f"events.jsonl: the {self._events.dropped} oldest events left out"


class _Curves:
    """Series by name, of records `{"step": 3, "loss": 2.5, ...}`."""

    def __init__(self) -> None:
        self.by_name: Curves = {}
        self.damaged = self.left_out = 0

    def add(self, record: Mapping[str, Any]) -> None:
        step = record.get("step")
        values = {k: number(v) for k, v in record.items() if k != "step"}
        if not _is_step(step) or None in values.values():
            self.damaged += 1
            return
        for name, value in values.items():
            if name not in self.by_name:
                if len(self.by_name) >= _MOST_NAMES:
                    self.left_out += 1
                    continue
                self.by_name[name] = Series()
            assert step is not None and value is not None
            self.by_name[name].add(step, value)


class _Metrics:
    """The records of metrics.jsonl: of training, or of an evaluation, `{"unseen/loss": ...}`."""

    def __init__(self) -> None:
        self.train, self._evaluated = _Curves(), _Curves()

    def add(self, record: Mapping[str, Any]) -> None:
        # Every step has a loss of its own; whatever an evaluation measures has its name in front.
        (self.train if "loss" in record else self._evaluated).add(record)

    @property
    def evaluations(self) -> dict[str, Curves]:
        found: dict[str, Curves] = {}
        for name, series in self._evaluated.by_name.items():
            evaluation, _, key = name.partition("/")
            found.setdefault(printable(evaluation), {})[key] = series
        return found

    @property
    def damaged(self) -> int:
        return self.train.damaged + self._evaluated.damaged

    @property
    def left_out(self) -> int:
        return self.train.left_out + self._evaluated.left_out


class _Events:
    """Events, of which the beats are thinned out: every second, every fourth, ... stays."""

    def __init__(self) -> None:
        self.damaged = self.dropped = 0
        self._others: list[Event] = []
        self._beats: list[Event] = []
        self._seen, self._every = 0, 1
        self._newest: Event | None = None

    def add(self, event: dict[str, Any]) -> None:
        if not _is_event(event):
            self.damaged += 1
            return
        self._newest = event
        if event["event"] != "beat":
            self._others.append(event)
            if len(self._others) > _MOST_EVENTS:
                self.dropped += _MOST_EVENTS // 2
                del self._others[: _MOST_EVENTS // 2]
            return
        self._seen += 1
        if self._seen % self._every == 0:
            self._beats.append(event)
        if len(self._beats) > _MOST_BEATS:
            self._every *= 2
            self._beats = self._beats[1::2]

    def all(self) -> list[Event]:
        newest = [self._newest] if self._newest is not None else []
        if newest and any(newest[0] is kept[-1] for kept in (self._beats, self._others) if kept):
            newest = []
        events = [*self._others, *self._beats, *newest]
        return sorted(events, key=lambda event: (event["session"], event["time"]))


def _is_event(event: Mapping[str, Any]) -> bool:
    seconds = event.get("seconds")
    return (
        isinstance(event.get("event"), str)
        and isinstance(event.get("phase"), str)
        and _is_step(event.get("session"))
        and _is_step(event.get("step"))
        and (event["event"] != "resumed" or _is_step(event.get("from_step")))
        and _is_time(event.get("time"))
        and isinstance(seconds, dict)
        and all(map(_is_time, seconds.values()))
    )


def _is_step(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_STEP


def _is_time(value: object) -> bool:
    seconds = number(value)
    return seconds is not None and 0 <= seconds < _LATEST


def number(value: object) -> float | None:
    """Returns a number of a record, or None for what is none; NaN is one."""
    if type(value) is float or (type(value) is int and abs(value) < _LARGEST_STEP):
        return float(value)
    return None


def printable(text: object) -> str:
    """Returns a text without what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def _facts(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ["run.json is missing: neither the experiment nor its config is known"]
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"run.json cannot be read: {error}"]
    return (facts, []) if isinstance(facts, dict) else ({}, ["run.json holds no object"])


def _texts(value: object) -> dict[str, str]:
    return {printable(k): printable(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _lines(value: object) -> list[str] | None:
    return [printable(line) for line in value] if isinstance(value, list) else None


def _checkpoints(directory: Path) -> list[CheckpointInfo]:
    try:
        return checkpoints(directory)
    except OSError:  # one was deleted while they were listed
        return []
