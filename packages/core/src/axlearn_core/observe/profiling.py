"""Profiles of chosen steps, and of a run that is under way: traces, memory, the compiled step."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jax

from axlearn_core.config import ConfigError, Configurable
from axlearn_core.observe.clock import Clock
from axlearn_core.parallel import is_first

FOLDER = "profile"
_logger = logging.getLogger(__name__)


class Profiler(Configurable):
    """Writes profiles below `profile/` in the directory of a run.

    `trace_10-12/` has a trace of these steps for XProf and for Perfetto, `memory_20.prof` what is
    in the memory of the devices after a step, for pprof, and `step.hlo.txt` the compiled step.
    SIGUSR1 asks a live process for all three, from its next step on.

    Process 0 profiles what the config names, and every process what a signal asks of it (below
    `profile/process_N/`). What cannot be profiled is logged, and the run goes on.
    """

    class Config(Configurable.Config):
        trace: str | None = None  # "10:12" traces steps 10, 11 and 12
        memory: int | None = None  # the step after which the memory is profiled
        hlo: bool = False
        signal_steps: int = 3  # that are traced after SIGUSR1

    def __init__(self, config: Config):
        super().__init__(config)
        self._wanted = _steps(config.trace)
        if config.memory is not None and config.memory < 1:
            raise ConfigError(f"profile.memory (={config.memory}) must be a step, at least 1")
        if config.signal_steps < 1:
            raise ConfigError(f"profile.signal_steps (={config.signal_steps}) must be at least 1")

    @contextlib.contextmanager
    def session(self, run: Path, clock: Clock, say: Callable[[str], None]) -> Iterator[None]:
        """Profiles what the block does, and listens to SIGUSR1 meanwhile (in the main thread)."""
        cfg = self.config
        self._run, self._clock, self._say = run, clock, say
        self._folder = run / FOLDER
        if not is_first():
            self._folder /= f"process_{jax.process_index()}"
        self._trace = self._wanted if is_first() else None
        self._memory: int | None = cfg.memory if is_first() else None
        self._hlo: bool = cfg.hlo and is_first()
        self._tracing: Path | None = None
        self._asked = False
        self._compiled: Any = None
        with _handling(signal.SIGUSR1, self._ask):
            try:
                yield
            finally:
                self._end_trace()

    def compiled(self, step: Any) -> None:
        """Takes the compiled step."""
        self._compiled = step
        if self._hlo:
            self._write_hlo()

    def step(self, number: int, state: Any) -> contextlib.AbstractContextManager[Any]:
        """Returns what names a step in traces; call it before the step, with the state so far."""
        if self._asked:
            self._asked = False
            self._trace = (number, number + self.config.signal_steps - 1)
            self._memory = number - 1
            self._write_hlo()
        if self._memory == number - 1:
            self._write_memory(number - 1, state)
        if self._trace is not None:
            first, last = self._trace
            if self._tracing is None and first <= number <= last:
                self._begin_trace(number, last, state)
            elif number > last:
                jax.block_until_ready(state)
                self._end_trace()
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def _begin_trace(self, first: int, last: int, state: Any) -> None:
        jax.block_until_ready(state)  # the steps before do not belong to it
        folder = self._folder / f"trace_{first}-{last}"
        with self._tolerating("trace"):
            jax.profiler.start_trace(folder, create_perfetto_trace=True)
            self._tracing = folder
            return
        self._trace = None

    def _end_trace(self) -> None:
        self._trace = None
        if self._tracing is not None:
            folder, self._tracing = self._tracing, None
            with self._tolerating("trace"):
                jax.profiler.stop_trace()
                self._made("trace", folder)

    def _write_memory(self, step: int, state: Any) -> None:
        self._memory = None
        jax.block_until_ready(state)
        path = self._folder / f"memory_{step}.prof"
        with self._tolerating("memory"):
            path.parent.mkdir(parents=True, exist_ok=True)
            jax.profiler.save_device_memory_profile(str(path))
            self._made("memory", path)

    def _write_hlo(self) -> None:
        path = self._folder / "step.hlo.txt"
        with self._tolerating("hlo"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._compiled.as_text(), encoding="utf-8")
            self._made("hlo", path)

    def _made(self, what: str, path: Path) -> None:
        self._clock.record("profiled", what=what, path=str(path.relative_to(self._run)))
        self._say(f"profiled    {what}: {path}")

    @contextlib.contextmanager
    def _tolerating(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # jax's profiler raises many kinds; none is worth a run
            _logger.warning("no %s profile: %s: %s", what, type(error).__name__, error)


def _steps(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(
            f"profile.trace (={text!r}) must be the first and the last step to trace, such as 10:12"
        )
    return int(found[1]), int(found[2])


@contextlib.contextmanager
def _handling(number: int, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
