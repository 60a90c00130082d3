"""One process of a run under drill: `python -m axlearn_core.drill.child` and the words of `axl`.

The variable AXLEARN_DRILL holds what is done to it, as JSON. What it passes goes into a log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

from axlearn_core.cli.machine import start
from axlearn_core.cli.main import main
from axlearn_core.drill.hosts import CUT
from axlearn_core.drill.log import Log
from axlearn_core.drill.points import START, install
from axlearn_core.hardware.contract import COORDINATOR, PROCESS_COUNT, PROCESS_INDEX
from axlearn_core.plugins import CheckpointSaved, Registry, StepCompleted, hookimpl, use_registry
from axlearn_core.plugins.manager import Plugin, discover, register

PLAN = "AXLEARN_DRILL"


class Child:
    """Strikes when the plan says so, and observes the run as a plugin.

    Args:
        log: where it writes what happens.
        strike: `Strike` as a dict, or None for a session that is left alone.
        words: of `axl`, for a second run of the same.
    """

    def __init__(self, log: Log, strike: dict[str, Any] | None, words: list[str]):
        self._log = log
        self._strike = strike
        self._words = words
        self._lock = threading.Lock()
        self.passes: Counter[str] = Counter()

    def passed(self, point: str) -> None:
        with self._lock:
            self.passes[point] += 1
            plan = self._strike
            if plan is None or (point, self.passes[point]) != (plan["point"], plan["nth"]):
                return
            self._strike = None
        if plan["within"]:
            timer = threading.Timer(plan["within"], self._act, (plan["action"],))
            timer.daemon = True
            timer.start()
        else:
            self._act(plan["action"])

    def _act(self, action: str) -> None:
        self._log.write("struck", action=action)
        if action == "hang":
            threading.Event().wait()
        elif action == "cut":
            subprocess.run(CUT, check=True)
        elif action == "second run":
            self._run_again()
        else:
            os.kill(os.getpid(), signal.Signals[action])

    def _run_again(self) -> None:
        alone = {PLAN, COORDINATOR, PROCESS_COUNT, PROCESS_INDEX}
        environment = {name: value for name, value in os.environ.items() if name not in alone}
        command = [sys.executable, "-m", "axlearn_core.cli.main", *self._words]
        second = subprocess.run(command, env=environment, capture_output=True, text=True)
        self._log.write("second run", code=second.returncode, said=second.stderr)

    @hookimpl
    def axlearn_step_completed(self, event: StepCompleted) -> None:
        self._log.write("step", step=event.step)

    @hookimpl
    def axlearn_checkpoint_saved(self, event: CheckpointSaved) -> None:
        self._log.write("saved", step=event.step)


def run(words: list[str]) -> int:
    """Runs `axl` with the words, under the plan in AXLEARN_DRILL."""
    plan = json.loads(os.environ[PLAN])
    log = Log(plan["log"])
    log.write("began")
    child = Child(log, plan["strike"], words)
    discovery = discover()
    register(discovery.manager, Plugin("axlearn-drill", "0", "drill", "ok"), child)
    with use_registry(Registry(discovery)) as registry:
        start(registry)  # before the functions are looked for, which imports jax
        install(child.passed)
        child.passed(START)
        try:
            return main(words)
        finally:
            log.write("passes", counts=child.passes)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
