"""Evaluation: the mean loss over data of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from axlearn_core.config import REQUIRED, ConfigError, Configurable
from axlearn_core.observe.metrics import MetricsQueue
from axlearn_core.training.input import Input
from axlearn_core.training.program import Program
from axlearn_core.training.share import local_batches, place_batch
from axlearn_core.training.state import TrainState
from axlearn_core.training.step import EvalStep


class Evaluation(Configurable):
    """Measures the loss per target token and, for text, per character.

    Attributes:
        baselines: nats per character of general compressors on the same text, by name.
    """

    class Config(Configurable.Config):
        input: Input.Config = REQUIRED
        every: int | None = None  # steps; null evaluates only when training ends
        max_batches: int | None = None  # null: one pass over the input, which must end

    def __init__(self, config: Config, *, name: str):
        super().__init__(config)
        if config.every is not None and config.every < 1:
            raise ConfigError(f"evaluations.{name}.every (={config.every}) must be >= 1, or null")
        self.name = name
        self.input: Input = config.input.instantiate()
        self.baselines = self.input.baselines()
        self._every = config.every
        self._max_batches = config.max_batches
        self._step: EvalStep | None = None

    def due(self, step: int) -> bool:
        """Whether the schedule asks for an evaluation after this step."""
        return self._every is not None and step % self._every == 0

    def run(
        self, program: Program, state: TrainState, alive: Callable[[], object] = lambda: None
    ) -> dict[str, float]:
        """Returns `loss` (nats per target token), `loss_per_character` for text, and `tokens`.

        The sums are taken in the order of the batches, so that the same state gives the same bits.
        `alive` is called after each batch.
        """
        if self._step is None:
            self._step = program.compile_eval_step(self.input.batch_shape())
        total, weight = 0.0, 0.0
        for loss in self._losses(self._step, program, state):
            total += float(loss["total"])
            weight += float(loss["weight"])
            alive()
        mean = total / max(weight, 1.0)
        values = {"loss": mean, "tokens": weight}
        if (characters := self.input.characters_per_token()) is not None:
            values["loss_per_character"] = mean / characters
        return values

    def _losses(
        self, step: EvalStep, program: Program, state: TrainState
    ) -> Iterator[dict[str, Any]]:
        """Yields `total` and `weight` of one batch after another, without waiting for each."""
        under_way = MetricsQueue()
        batches = local_batches(self.input, program.placement)
        for number, batch in enumerate(itertools.islice(batches, self._max_batches)):
            loss = step(state, place_batch(batch, program.placement))
            under_way.add(number, loss._asdict())
            yield from (arrived.values for arrived in under_way.arrived())
        yield from (arrived.values for arrived in under_way.drain())
