"""Stopping well: SIGTERM and Ctrl-C finish the step, save, and end the run.

Before the first step there is nothing to save, and compiling may take longer than the grace that a
cluster gives: a run that is alone ends at once.

Of several processes, all must stop after the same step, whichever of them got the signal. JAX's
preemption service sees to it: its own handler of SIGTERM tells the coordinator, which tells all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Literal

import jax
from jax.experimental import multihost_utils

Reason = Literal["preempted", "interrupted"]

EXIT_INTERRUPTED = 130  # the shell's convention for a program that Ctrl-C ended


class StopRequest:
    """Whether, and why, somebody asked the run to stop.

    Attributes:
        reason: why, or None.
        stepping: whether the run has come to its first step.
    """

    def __init__(self, say: Callable[[str], None]):
        self.reason: Reason | None = None
        self.stepping = False
        self._say = say

    def reached(self, step: int) -> bool:
        """Whether the run is to end after this step. Ask after every step, on every process."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.reason = self.reason or "preempted"
            return True
        return jax.process_count() == 1 and self.reason is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Reacts to a signal: the first one asks, a second Ctrl-C ends the process at once."""
        if not self.stepping and jax.process_count() == 1:
            self._tell(f"{signal.Signals(number).name} before the first step: nothing to save")
            if number == signal.SIGTERM:
                os._exit(0)  # no thread, such as one that compiles, may delay it
            raise KeyboardInterrupt
        if number == signal.SIGTERM:
            self.reason = self.reason or "preempted"
            self._tell("SIGTERM: finishing this step, then saving")
        elif self.reason is None:
            self.reason = "interrupted"
            self._tell("Ctrl-C: finishing this step, then saving; press it again to stop at once")
            if jax.process_count() > 1:
                os.kill(os.getpid(), signal.SIGTERM)  # for jax's handler, which tells the others
        else:
            self._tell(
                "Ctrl-C again: stopped without saving. Complete checkpoints are intact; the same "
                "command goes on from the newest"
            )
            os._exit(EXIT_INTERRUPTED)  # no thread may delay it

    def _tell(self, message: str) -> None:
        with contextlib.suppress(RuntimeError):  # the signal came in the middle of another line
            self._say(message)


@contextlib.contextmanager
def stopping_on_signals(say: Callable[[str], None]) -> Iterator[StopRequest]:
    """Within the block, signals set the returned request instead of ending the process.

    Outside the main thread no signal can be handled, and the request is never set.
    """
    request = StopRequest(say)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGTERM, signal.SIGINT]
    before = {number: signal.signal(number, request.handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
