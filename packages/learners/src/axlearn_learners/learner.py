"""The learner: clips gradients, asks an optimizer for the update, and reports norms."""

from __future__ import annotations

from typing import Any

import jax
import optax

from axlearn_core.config import ConfigBase, ConfigError
from axlearn_core.module.parameters import ParameterSpecs
from axlearn_core.training.learner import Learner, LearnerUpdate, Params
from axlearn_learners.axes import state_axes
from axlearn_learners.clipping import clip_by_global_norm, global_norm
from axlearn_learners.optimizers import AdamW, Optimizer
from axlearn_learners.schedules import give_length


class OptaxLearner(Learner):
    """Updates all parameters with one optimizer.

    Metrics: `gradient_norm` (before clipping), `learning_rate`, and `update_norm`, the distance by
    which the parameters move, which costs one more pass over them.
    """

    class Config(Learner.Config):
        optimizer: Optimizer.Config = AdamW.default_config()
        clip_norm: float | None = 1.0  # limit of the gradients' global norm, > 0; None: no limit
        report_update_norm: bool = True

    def __init__(self, config: ConfigBase, *, specs: ParameterSpecs) -> None:
        super().__init__(config, specs=specs)
        cfg = self.config
        if cfg.clip_norm is not None and cfg.clip_norm <= 0:
            raise ConfigError(
                f"clip_norm (={cfg.clip_norm}) must be positive; write None for no limit"
            )
        give_length(cfg, cfg.total_steps)
        self.optimizer: Optimizer = cfg.optimizer.instantiate()
        self._transformation = self.optimizer.transformation(specs)

    def init(self, params: Params) -> Any:
        return self._transformation.init(params)

    def update(
        self, grads: Params, opt_state: Any, params: Params, step: jax.Array
    ) -> LearnerUpdate:
        cfg = self.config
        norm = global_norm(grads)
        if cfg.clip_norm is not None:
            grads = clip_by_global_norm(grads, norm, cfg.clip_norm)
        updates, opt_state = self._transformation.update(grads, opt_state, params, step=step)
        metrics = {"gradient_norm": norm, "learning_rate": self.optimizer.learning_rate(step)}
        if cfg.report_update_norm:
            metrics["update_norm"] = global_norm(updates)
        return LearnerUpdate(optax.apply_updates(params, updates), opt_state, metrics)

    def evaluation_params(self, params: Params, opt_state: Any) -> Params:
        return self.optimizer.evaluation_params(params, opt_state)

    def state_axes(self) -> Any:
        return state_axes(self._transformation, self.specs)
