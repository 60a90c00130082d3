"""Tells all who listen what a run does: the terminal, the writers, the plugins' observers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from axlearn_core.errors import UserError
from axlearn_core.observe.clock import Clock
from axlearn_core.observe.metrics import StepMetrics, scalars
from axlearn_core.observe.outlets import Outlets
from axlearn_core.observe.performance import Performance
from axlearn_core.observe.progress import Progress, count, duration, size
from axlearn_core.plugins import (
    CheckpointSaved,
    EvalCompleted,
    HookCaller,
    RunFinished,
    RunStarted,
    StepCompleted,
)


class Report:
    """Passes a run's events on, in the order of its steps.

    Attributes:
        last: the newest values by kind ("train", or an evaluation's name).
        last_step: the step of each of them.
    """

    def __init__(
        self,
        progress: Progress,
        outlets: Outlets,
        performance: Performance,
        hook: HookCaller,
        clock: Clock,
        *,
        max_step: int,
        log_every: int,
    ):
        self._progress = progress
        self._outlets = outlets
        self._performance = performance
        self._max_step = max_step
        self._log_every = log_every
        self._hook = hook
        self._clock = clock
        self._watched = bool(self._hook.implementers("axlearn_step_completed"))
        self._first_step = 0
        self.last: dict[str, dict[str, float]] = {}
        self.last_step: dict[str, int] = {}

    def started(self, directory: Path, experiment: str, *, after_step: int) -> None:
        self._first_step = after_step + 1
        self._hook.axlearn_run_started(RunStarted(directory, experiment, self._max_step))

    def step(self, metrics: StepMetrics, *, waited: float) -> None:
        """Takes the values of a step that have arrived; `waited` is for `Performance`."""
        step = self._clock.step = metrics.step
        # What is written must not depend on where a run was interrupted; what is shown may.
        written = step in (1, self._max_step) or step % self._log_every == 0
        logged = written or step == self._first_step
        values = metrics.values
        if logged or self._watched:
            everything = scalars({k: v for k, v in values.items() if k != "good"})
            self._hook.axlearn_step_completed(StepCompleted(step, everything))
        if written:
            self.last["train"], self.last_step["train"] = everything, step
            self._outlets.write(step, "train", everything)
        speed: dict[str, float] = {}
        if step == self._first_step:  # the first interval would measure the warm-up
            self._performance.start(step, waited)
        elif written and (speed := self._performance.measure(step, waited)):
            speed["goodput"] = self._clock.goodput()
            self._outlets.write(step, "performance", speed)
        shown = {"loss": f"{float(values['loss']):.4f}"}
        if logged:
            shown |= self._details(step, everything, speed)
        self._progress.step(step, shown, logged=logged)

    def evaluated(
        self, step: int, name: str, values: dict[str, float], baselines: Mapping[str, float]
    ) -> None:
        self.last[name] = values
        named = {f"{name}/{key}": value for key, value in values.items()}
        self._outlets.write(step, "eval", named)
        self._clock.record("evaluated", name=name, loss=values["loss"])
        self._hook.axlearn_eval_completed(EvalCompleted(step, name, values))
        shown = f"loss {values['loss']:.4f} nats/token"
        if "loss_per_character" in values:
            shown += f", {per_character(values, baselines)}"
        self._progress.say(f"eval {name} at step {step}: {shown}")

    def saved(self, step: int, path: Path) -> None:
        where = f"{path.parent.name}/{path.name}"
        self._clock.record("checkpoint_saved", saved_step=step, path=where)
        self._hook.axlearn_checkpoint_saved(CheckpointSaved(step, path))

    def flush(self) -> None:
        """Puts on disk what a checkpoint must not be ahead of.

        Raises:
            UserError: if that fails.
        """
        self._outlets.flush()

    def flushed(self) -> bool:
        """Puts it on disk, and returns whether it is there."""
        try:
            self.flush()
        except UserError:  # its cause was told when the first record had to wait
            return False
        return True

    def resumed_timing(self, step: int, waited: float) -> None:
        """Leaves out of the next interval what was no training (an evaluation, a save)."""
        self._performance.start(step, waited)

    def finished(self, step: int, reason: str) -> None:
        self._hook.axlearn_run_finished(RunFinished(step, reason))

    def _details(
        self, step: int, values: dict[str, float], speed: dict[str, float]
    ) -> dict[str, str]:
        shown = {}
        if "learning_rate" in values:
            shown["lr"] = f"{values['learning_rate']:.2e}"
        if "gradient_norm" in values:
            shown["grad"] = f"{values['gradient_norm']:.2f}"
        if speed:
            shown["tok/s"] = count(speed["tokens_per_second"])
            if "mfu" in speed:
                shown["mfu"] = f"{speed['mfu']:.0%}"
            if "device_utilization" in speed:
                shown["busy"] = f"{speed['device_utilization']:.0%}"
            shown["wait"] = f"{speed['data_wait']:.0%}"
            if "memory_bytes" in speed:
                shown["mem"] = size(speed["memory_bytes"])
            shown["eta"] = duration((self._max_step - step) * speed["seconds_per_step"])
        return shown


def per_character(values: Mapping[str, float], baselines: Mapping[str, float]) -> str:
    """Writes an evaluation's loss per character beside what compressors make of the same text."""
    beside = ", ".join(f"{name}: {nats:.3f}" for name, nats in baselines.items())
    shown = f"{values['loss_per_character']:.4f} nats/character"
    return f"{shown} ({beside})" if beside else shown
