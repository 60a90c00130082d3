"""The clock of a session: in which phase the run is, and since when."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from axlearn_core.observe.events import EventFile, read_events
from axlearn_core.observe.faults import hearing_faults
from axlearn_core.observe.goodput import Account, Phase, account

GOODPUT = "goodput.json"
_Item = TypeVar("_Item")
# Seconds between two readings on disk, which is what a kill may cost. It grows with the session, so
# that short ones are known well and long ones write little.
_FIRST_BEAT, _LONGEST_BEAT = 1.0, 10.0


def process_began() -> float:
    """Returns when this process began (Unix seconds), where Linux tells it; else the time now."""
    now = time.time()
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return now
    since_boot = float(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22, which follows the name
    return now - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


class Clock:
    """Attributes every moment of a session to one phase, and tells `events.jsonl`.

    It is in one phase at any time, first in `init`, so the phases add up to the time that passed.

    Args:
        run: the run's directory, or None to count and tell nothing (all but process 0).
        began: when the session began (Unix seconds), such as the start of its process; None: now.
        monotonic: seconds that never run backwards.
        now: Unix seconds.

    Attributes:
        step: the last one whose values have arrived.
        reason: why the session ends, if it does not fail.
    """

    def __init__(
        self,
        run: Path | None,
        *,
        began: float | None = None,
        monotonic: Callable[[], float] = time.perf_counter,
        now: Callable[[], float] = time.time,
    ):
        self.step = 0
        self.reason = "completed"
        self._monotonic = monotonic
        self._phase: Phase = "init"
        self._began = now() if began is None else began
        self._since = monotonic() - (now() - self._began)
        self._seconds: dict[Phase, float] = {}
        # The heartbeat reads beside the loop, which never waits for what it writes to a slow disk.
        self._lock, self._writing = threading.RLock(), threading.Lock()
        self._run = run
        self._file = EventFile(run) if run else None
        earlier = self._earlier()
        self._number = earlier[-1]["session"] + 1 if earlier else 1
        self._base: tuple[float, float] | None = None

    @contextlib.contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Counts the block as a phase, and what comes after it as the phase before."""
        outer = self._enter(phase)
        try:
            yield
        finally:
            self._enter(outer)

    def waiting(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yields the items; the time in which each is waited for is `data_wait`."""
        iterator = iter(items)
        while True:
            with self.phase("data_wait"):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def seconds(self) -> dict[Phase, float]:
        """Returns the time of this session so far by phase."""
        with self._lock:
            self._enter(self._phase)
            return dict(self._seconds)

    def record(self, event: str, **facts: Any) -> None:
        """Adds an event, with a reading of the clock."""
        if self._file is not None:
            with self._writing:
                self._file.add({**self._reading(event), **facts})

    def fault(self, kind: str, message: str) -> None:
        """Adds something that went wrong, in a word and in a line."""
        self.record("fault", kind=kind, message=message)

    def account(self) -> Account:
        """Returns where the time of all sessions went, this one included."""
        return account([*self._earlier(), self._reading("reading")])

    def goodput(self) -> float:
        """Returns the share of steps in all of the time; reads the earlier sessions once."""
        seconds = self.seconds()
        step, wall = seconds.get("step", 0.0), sum(seconds.values())
        if self._base is None:
            total = self.account()
            self._base = (total.seconds["step"] - step, total.wall - wall)
        return (self._base[0] + step) / (self._base[1] + wall)

    @contextlib.contextmanager
    def session(self, **facts: Any) -> Iterator[None]:
        """Records the begin and the end of a session, a failure too, and a heartbeat meanwhile.

        And the faults that are told within it.
        """
        ended = threading.Event()
        beats = threading.Thread(target=self._beat, args=[ended], name="clock", daemon=True)
        self.record("session_started", **facts)
        beats.start()
        try:
            with hearing_faults(self.fault):
                yield
        except BaseException as error:
            self.reason = f"failed: {str(error) or type(error).__name__}"
            raise
        finally:
            ended.set()
            beats.join()
            self.record("session_finished", reason=self.reason)
            self._export()

    def _beat(self, ended: threading.Event) -> None:
        distance = _FIRST_BEAT
        while not ended.wait(distance):
            self.record("beat")
            distance = min(_LONGEST_BEAT, _FIRST_BEAT + sum(self.seconds().values()) / 60)

    def _earlier(self) -> list[dict[str, Any]]:
        return read_events(self._run) if self._run else []

    def _export(self) -> None:
        if self._run is None:
            return
        total = account(self._earlier())
        exported = {"goodput": total.goodput, "wall": total.wall, "seconds": total.seconds}
        with contextlib.suppress(OSError):  # the events say the same, or their loss was told
            (self._run / GOODPUT).write_text(json.dumps(exported, indent=1) + "\n")

    def _enter(self, phase: Phase) -> Phase:
        with self._lock:
            now, before = self._monotonic(), self._phase
            self._seconds[before] = self._seconds.get(before, 0.0) + now - self._since
            self._phase, self._since = phase, now
            return before

    def _reading(self, event: str) -> dict[str, Any]:
        with self._lock:
            seconds, phase = self.seconds(), self._phase
        return {
            "time": self._began + sum(seconds.values()),
            "event": event,
            "session": self._number,
            "step": self.step,
            "phase": phase,
            "seconds": {name: round(spent, 6) for name, spent in seconds.items()},
        }
