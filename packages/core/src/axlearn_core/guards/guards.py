"""The guards of a run, as one part of its config, and as one thing for the loop to talk to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from axlearn_core.config import ConfigError, Configurable
from axlearn_core.guards.corruption import Corruption, CorruptionWatch
from axlearn_core.guards.numbers import Attempt, Numbers, NumbersWatch
from axlearn_core.guards.watchdog import Watchdog
from axlearn_core.observe.metrics import StepMetrics
from axlearn_core.training.input import BatchShape
from axlearn_core.training.model import Batch
from axlearn_core.training.program import Program
from axlearn_core.training.state import TrainState
from axlearn_core.training.step import TrainStep


class Guards(Configurable):
    """What is done about numbers that are no good, data and steps that hang, and wrong bits."""

    class Config(Configurable.Config):
        numbers: Numbers.Config = Numbers.default_config()
        watchdog: Watchdog.Config = Watchdog.default_config()
        corruption: Corruption.Config = Corruption.default_config()
        input_timeout: float | None = 1200.0  # seconds that one batch may take; null: no limit

    def __init__(self, config: Config):
        super().__init__(config)
        if config.input_timeout is not None and not config.input_timeout > 0:
            raise ConfigError(f"input_timeout (={config.input_timeout}) must be above 0, or null")
        self.numbers: Numbers = config.numbers.instantiate()
        self._corruption: Corruption = config.corruption.instantiate()

    @contextlib.contextmanager
    def watching(
        self,
        program: Program,
        train_step: TrainStep,
        batch_shape: BatchShape,
        attempt: Attempt,
        directory: Path,
        say: Callable[[str], None],
        fault: Callable[[str, str], None],
    ) -> Iterator[Watch]:
        """Watches over the steps that are made within the block.

        `fault` takes the kind of what the run goes on after, or of a hang, and a line about it.
        """
        watchdog: Watchdog = self.config.watchdog.instantiate(directory=directory, fault=fault)
        watchdog.start(attempt.step)
        try:
            yield Watch(
                NumbersWatch(self.numbers, attempt, directory, say, fault),
                CorruptionWatch(self._corruption.config, program, train_step, batch_shape),
                watchdog,
            )
        finally:
            watchdog.close()


class Watch:
    """What the loop tells of each step, for all guards."""

    def __init__(self, numbers: NumbersWatch, corruption: CorruptionWatch, watchdog: Watchdog):
        self._numbers = numbers
        self._corruption = corruption
        self.alive = watchdog.alive

    def before_step(
        self, step: int, state: TrainState, batch: Batch, input_state: Mapping[str, Any]
    ) -> None:
        """Takes what a step is about to be made of; `input_state` is that after the batch."""
        self._corruption.before_step(step, state, batch)
        self._numbers.made(step, batch, input_state)

    def after_step(self, step: int, state: TrainState, *, saves: bool) -> None:
        """Takes a step's state, which `saves` says is about to be saved."""
        self._corruption.after_step(step, state, saves=saves)

    def arrived(self, metrics: StepMetrics) -> None:
        """Takes the values of a step that is finished; raises if the run must not go on."""
        self.alive(metrics.step)
        self._numbers.arrived(metrics)

    def facts(self) -> dict[str, Any]:
        """Returns what a checkpoint has to remember."""
        return self._numbers.facts()
