"""A learner around another one."""

from __future__ import annotations

from typing import Any

from axlearn_core.config import ConfigBase
from axlearn_core.module.parameters import ParameterSpecs
from axlearn_core.training.learner import Learner
from axlearn_learners.learner import OptaxLearner


class LearnerWrapper(Learner):
    """Builds the learner inside, for subclasses that change what it does."""

    class Config(Learner.Config):
        learner: Learner.Config = OptaxLearner.default_config()

    def __init__(self, config: ConfigBase, *, specs: ParameterSpecs) -> None:
        super().__init__(config, specs=specs)
        cfg = self.config
        if cfg.learner.total_steps is None:
            cfg.learner.total_steps = cfg.total_steps
        self.learner: Learner = cfg.learner.instantiate(specs=specs)

    def trained(self, tree: dict[str, Any]) -> dict[str, Any]:
        return self.learner.trained(tree)
