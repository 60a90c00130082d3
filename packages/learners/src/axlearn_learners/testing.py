"""The contract of optimizers that are made of optax transformations, for authors to inherit."""

from __future__ import annotations

from typing import Any

from axlearn_core.config import ConfigBase
from axlearn_core.testing.contracts import OptimizerContract
from axlearn_learners.learner import OptaxLearner

__all__ = ["OptaxOptimizerContract"]


class OptaxOptimizerContract(OptimizerContract):
    """`OptimizerContract` for subclasses of `Optimizer`: they run in an `OptaxLearner`."""

    def learner_with(self, optimizer: ConfigBase) -> Any:
        return OptaxLearner.default_config().set(optimizer=optimizer, clip_norm=None)
