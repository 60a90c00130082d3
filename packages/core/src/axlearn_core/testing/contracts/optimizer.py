"""The contract of optimizers."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.config import REQUIRED, ConfigBase
from axlearn_core.testing.contracts.learner import STEPS, LearnerContract, built, draw
from axlearn_core.testing.contracts.subject import compiled
from axlearn_core.testing.contracts.trees import assert_trees_close
from axlearn_core.training.learner import Params
from axlearn_core.training.schedule import Schedule, Step


class OptimizerContract(LearnerContract):
    """A learner with this optimizer keeps to the contract of learners, at any learning rate.

    `config` returns the optimizer's; its `learning_rate` is a number. Optimizers of
    `axlearn-learners` inherit `axlearn_learners.testing.OptaxOptimizerContract`.
    """

    peak_rate: ClassVar[float] = 0.1  # from which the quadratic is solved
    # Fields that a number or a schedule may be written into.
    scheduled: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def learner_with(self, optimizer: ConfigBase) -> Any:
        """Returns the config of a learner that does nothing but what its optimizer says."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a learner for the optimizer: define learner_with(self, "
            "optimizer) and return its config, or inherit OptaxOptimizerContract of "
            "axlearn_learners.testing"
        )

    def learner_config(self) -> Any:
        return self.learner_with(self.config())

    def converging_config(self) -> Any:
        """The rate falls to 0, since some optimizers make steps of its size at any gradient."""
        return self.learner_with(
            self.config().set(learning_rate=Falling.Config(peak=self.peak_rate))
        )

    def build(self, config: ConfigBase) -> Any:
        return config.instantiate()

    def test_a_scheduled_field_is_worth_what_its_schedule_says(self) -> None:
        step = STEPS // 4
        for field in self.scheduled:
            value = getattr(self.config(), field)
            assert isinstance(value, float), f"set {field} of the example to a number: {value!r}"
            schedule = Falling.Config(peak=value, total_steps=STEPS)
            now = float(schedule.instantiate()(step))
            scheduled, fixed = (self.config().set(**{field: rate}) for rate in (schedule, now))
            cases = ((scheduled, step), (fixed, step), (scheduled, 0))
            by_schedule, by_number, first = self._updates(*cases)
            assert_trees_close(by_schedule, by_number, tolerance=self.tolerance)
            same = jax.tree.map(np.array_equal, by_schedule, first)
            assert not all(jax.tree.leaves(same)), f"nothing depends on {field}"

    def _updates(self, *cases: tuple[Any, int]) -> list[Params]:
        """Returns the parameters after an update by each optimizer, that is the step's."""

        @compiled
        def updates(params: Params, gradients: Params) -> list[Params]:
            made = []
            for optimizer, step in cases:
                learner = built(self.learner_with(optimizer))
                state = learner.init(params)
                made.append(learner.update(gradients, state, params, jnp.int32(step)).params)
            return made

        result: list[Params] = updates(draw(0), draw(1))
        return result


class Falling(Schedule):
    """rate(s) = peak * (1 - s / total_steps)."""

    class Config(Schedule.Config):
        peak: float = REQUIRED

    def __call__(self, step: Step) -> jax.Array:
        left: jax.Array = 1 - jnp.float32(step) / self.config.total_steps
        return self.config.peak * left
