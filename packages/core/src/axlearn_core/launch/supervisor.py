"""Runs processes side by side until all have ended, or one has failed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Literal

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 15  # in which the others may say what they know of a failure
_LAST_LINES = 12
_NOISE = "[Gloo]"  # a line for each group of devices that communicate
_LOST = -signal.SIGABRT  # how jax ends a process that no longer hears of another
Shown = Literal["first", "all", "none"]


@dataclass(frozen=True)
class Ended:
    """How a set of processes ended.

    Attributes:
        codes: their exit codes; negative for a signal.
        times: when each was seen to have ended, in seconds of Unix time.
        failed: the one to blame, or None when all ended well: one that hung while the others left,
            else the first that failed.
        last_lines: what that one has printed last.
        stopped: the signal that this process got and passed on as SIGTERM, or None.
    """

    codes: list[int]
    times: list[float]
    failed: int | None
    last_lines: list[str]
    stopped: int | None


def supervise(
    command: Sequence[str],
    environments: Sequence[Mapping[str, str]],
    *,
    shown: Shown = "first",
    limit: float = float("inf"),
    within: Callable[[int], Sequence[str]] = lambda index: (),
) -> Ended:
    """Runs a command once in each environment.

    SIGTERM and Ctrl-C reach all of them as SIGTERM; a second signal kills them. When one fails, the
    others get a moment to end by themselves, and are killed then.

    Args:
        command: the words.
        environments: all variables of each process.
        shown: whose output is printed: that of the first, of all with their numbers, or of none.
        limit: seconds after which all that are left are killed.
        within: the words before a process's command that make it run somewhere else.
    """
    processes: list[_Child] = []
    failed: int | None = None
    with _passing_on_signals(processes) as signals:
        try:
            for index, environment in enumerate(environments):
                words = [*within(index), *command]
                processes.append(_Child(words, environment, index, shown))
            if signals:  # which came before all could get it
                for child in processes:
                    child.terminate()
            failed = _wait(processes, time.monotonic() + limit)
        finally:
            for child in processes:
                child.kill()
    codes = [child.finish() for child in processes]
    times = [child.ended or time.time() for child in processes]
    lines = list(processes[failed].last) if failed is not None else []
    return Ended(codes, times, failed, lines, signals[0] if signals else None)


def _wait(processes: Sequence[_Child], limit: float) -> int | None:
    """Returns the one to blame, after the others' grace, or None when all ended well."""
    failed: int | None = None
    deadline = limit
    while True:
        codes = [child.poll() for child in processes]
        if failed is None and any(codes):
            failed = _first_failed(codes)
            deadline = min(limit, time.monotonic() + _GRACE_SECONDS)
        if None not in codes:
            return failed
        if time.monotonic() > deadline:
            hung = failed is None or codes[failed] == _LOST  # and nothing is known of another cause
            return codes.index(None) if hung else failed
        time.sleep(_POLL_SECONDS)


def _first_failed(codes: Sequence[int | None]) -> int:
    """Of those seen to fail at once, the one least likely to have failed for want of another.

    It has that from jax, which ends it by abort, or from an error that `joined` explains (code 1).
    """
    failures = [index for index, code in enumerate(codes) if code]
    return min(failures, key=lambda index: (codes[index] == _LOST, codes[index] == 1))


@contextlib.contextmanager
def _passing_on_signals(processes: Sequence[_Child]) -> Iterator[list[int]]:
    got: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        got.append(number)
        for child in processes:
            child.terminate() if len(got) == 1 else child.kill()

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    """One process, whose output a thread reads."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], index: int, shown: Shown
    ):
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        self.ended: float | None = None
        self._prefix: str | None = f"[{index}] " if shown == "all" else ""
        if shown == "none" or (shown == "first" and index > 0):
            self._prefix = None
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is the supervisor's
        )
        self._reader = threading.Thread(target=self._read, name=f"output {index}", daemon=True)
        self._reader.start()

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None and self.ended is None:
            self.ended = time.time()
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        """Kills the process and what it has started, which would keep its output open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def finish(self) -> int:
        code = self._process.wait()
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if not line.startswith(_NOISE):
                    self.last.append(line.rstrip())
                    if self._prefix is not None:
                        print(f"{self._prefix}{line}", end="", flush=True)
