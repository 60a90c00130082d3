"""Keeping a run's state: durable checkpoints, and the frequent copies between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from axlearn_core.checkpoint.checkpointer import Checkpointer
from axlearn_core.checkpoint.copies import Copies
from axlearn_core.observe.clock import Clock
from axlearn_core.parallel import from_first, wait_for_all
from axlearn_core.training.report import Report
from axlearn_core.training.state import TrainState


class Keeper:
    """Saves the state where it is to be, with what else a run needs to go on.

    Args:
        checkpointer: writes durable checkpoints.
        copies: writes those beside the processes.
        report: whose records a checkpoint must not be ahead of; told of complete saves.
        clock: is told how long the loop waited.
        facts: given the input's state, returns the small JSON to save.
        texts: further files of a checkpoint, by name.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        copies: Copies,
        report: Report,
        clock: Clock,
        facts: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        texts: Mapping[str, str],
    ):
        self._checkpointer = checkpointer
        self._copies = copies
        self._report = report
        self._clock = clock
        self._facts = facts
        self._texts = texts

    def due(self, step: int) -> Callable[[TrainState, Mapping[str, Any]], None] | None:
        """Returns what saves after this step, None if nothing is due. Ask once after every step."""
        if self._checkpointer.due(step):
            save = partial(self._checkpointer.save, before=self._report.flush)
            return lambda state, place: self._save(save, step, state, place)
        if self._copies.due(step):
            return lambda state, place: self._copy(step, state, place)
        return None

    def save_last(self, step: int, state: TrainState, input_state: Mapping[str, Any]) -> None:
        """Saves, unless it is done, and waits until every process knows that it is complete."""
        save = partial(self._checkpointer.save_last, before=self._report.flush)
        self._save(save, step, state, input_state)
        with self._clock.phase("checkpoint"):
            self._checkpointer.wait()
            wait_for_all("the last checkpoint is complete")

    def tell_complete(self) -> None:
        """Reports the saves that came to their end."""
        for step, path in self._checkpointer.poll():
            self._report.saved(step, path)

    def close(self) -> None:
        """Waits for what is under way."""
        with self._clock.phase("checkpoint"):
            self._checkpointer.close()
        self.tell_complete()

    def drop_copies(self) -> None:
        """Removes them: the run is complete, or must not go on from where they are."""
        self._copies.remove()

    def _save(
        self,
        save: Callable[[int, Any, Mapping[str, Any], Mapping[str, str]], None],
        step: int,
        state: TrainState,
        input_state: Mapping[str, Any],
    ) -> None:
        start = time.perf_counter()
        with self._clock.phase("checkpoint"):
            save(step, state, self._facts(input_state), self._texts)
        stalled = time.perf_counter() - start
        self._clock.record("checkpoint_started", stall_seconds=stalled)

    def _copy(self, step: int, state: TrainState, input_state: Mapping[str, Any]) -> None:
        with self._clock.phase("checkpoint"):
            if from_first(self._report.flushed):
                self._copies.save(step, state, self._facts(input_state))
