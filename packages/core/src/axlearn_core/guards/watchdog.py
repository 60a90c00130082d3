"""Ends a run in which no step comes to its end any more, so that a supervisor starts it again."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax

from axlearn_core.config import ConfigError, Configurable
from axlearn_core.errors import EXIT_HUNG
from axlearn_core.guards.offence import FOLDER

_MOST_SECONDS_TO_WRITE = 10.0  # the storage may be what hangs
_POLLS = 20  # within the timeout


class Watchdog(Configurable):
    """Tells that nothing was finished for too long: a step, a batch of an evaluation, a save.

    It prints every thread's stack, keeps them in `faults/stacks-of-process-N.txt`, and ends the
    process with the exit code 75. Time in which the whole process was stopped (SIGSTOP, a laptop
    that slept) does not count.
    """

    class Config(Configurable.Config):
        timeout: float | None = 1800.0  # seconds without a finished step, > 0; null: no limit

    def __init__(
        self,
        config: Config,
        *,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], None] = os._exit,  # no thread may delay it
        fault: Callable[[str, str], None] = lambda kind, message: None,
    ):
        super().__init__(config)
        if config.timeout is not None and not config.timeout > 0:
            raise ConfigError(f"timeout (={config.timeout}) must be above 0, or null")
        self._timeout = config.timeout
        self._directory = directory
        self._clock = clock
        self._end = end
        self._fault = fault
        self._step = 0
        self._quiet = 0.0  # seconds without a sign of life
        self._last_look = clock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self, step: int) -> None:
        """Begins to watch, in a thread, after `step` steps."""
        self.alive(step)
        if self._timeout is not None:
            self._thread.start()

    def alive(self, step: int) -> None:
        """Takes a sign of life: `step` is the last that was finished."""
        self._step, self._quiet = step, 0.0

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Ends the process if there was no sign of life for too long."""
        assert self._timeout is not None
        now = self._clock()
        self._quiet += min(now - self._last_look, 2 * self._timeout / _POLLS)
        self._last_look = now
        if self._quiet > self._timeout:
            self._tell()
            self._end(EXIT_HUNG)

    def _watch(self) -> None:
        assert self._timeout is not None
        while not self._closed.wait(self._timeout / _POLLS):
            self.look()

    def _tell(self) -> None:
        path = self._directory / FOLDER / f"stacks-of-process-{jax.process_index()}.txt"
        message = (
            f"nothing was finished for {self._timeout:.0f} s (guards.watchdog.timeout); the last "
            f"step known to be finished is {self._step}. This process ends with exit code "
            f"{EXIT_HUNG}; the same command goes on from the last checkpoint. What its threads do "
            f"is kept in {path}"
        )
        stderr = sys.__stderr__ or sys.stderr
        faulthandler.dump_traceback(stderr, all_threads=True)
        stderr.write(f"axl: error: {message}\n")  # last, as what a supervisor shows
        stderr.flush()
        writer = threading.Thread(target=self._keep, args=(path, message), daemon=True)
        writer.start()
        writer.join(_MOST_SECONDS_TO_WRITE)

    def _keep(self, path: Path, message: str) -> None:
        with contextlib.suppress(OSError):  # all of it is in the process's output
            path.parent.mkdir(exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                file.write(f"{message}:\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        self._fault("hang", message)
