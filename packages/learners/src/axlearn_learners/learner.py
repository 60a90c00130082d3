"""The learner: clips gradients, asks optimizers for the update, and reports norms."""

from __future__ import annotations

from typing import Any

import jax
import optax

from axlearn_core.config import ConfigBase, ConfigError
from axlearn_core.module.parameters import ParameterSpecs
from axlearn_core.training.learner import Learner, LearnerUpdate, Params
from axlearn_core.training.schedule import give_length
from axlearn_core.training.state import merge_trees
from axlearn_learners.axes import state_axes
from axlearn_learners.clipping import clip_by_global_norm, global_norm
from axlearn_learners.groups import GroupedOptimizer, ParameterGroup
from axlearn_learners.optimizers import AdamW, Optimizer


class OptaxLearner(Learner):
    """Updates all parameters with one optimizer, but for groups that are trained in another way.

    Metrics: `gradient_norm` (before clipping), `learning_rate`, and `update_norm`, the distance by
    which the parameters move. With groups also these of each ("gradient_norm/tables"; what is in
    none is "rest"). What is frozen counts nowhere.
    """

    class Config(Learner.Config):
        optimizer: Optimizer.Config = AdamW.default_config()
        groups: dict[str, ParameterGroup] = {}  # by name; a parameter is in the first that matches
        clip_norm: float | None = 1.0  # limit of the gradients' global norm, > 0; None: no limit

    def __init__(self, config: ConfigBase, *, specs: ParameterSpecs) -> None:
        super().__init__(config, specs=specs)
        cfg = self.config
        if cfg.clip_norm is not None and cfg.clip_norm <= 0:
            raise ConfigError(
                f"clip_norm (={cfg.clip_norm}) must be positive; write None for no limit"
            )
        give_length(cfg, cfg.total_steps)
        self.optimizer: Optimizer = cfg.optimizer.instantiate()
        self._grouped = GroupedOptimizer(self.optimizer, cfg.groups, specs)

    def init(self, params: Params) -> Any:
        return self._grouped.transformation.init(self._grouped.trained(params))

    def update(
        self, grads: Params, opt_state: Any, params: Params, step: jax.Array
    ) -> LearnerUpdate:
        cfg, grouped = self.config, self._grouped
        grads, trained = grouped.trained(grads), grouped.trained(params)
        norm = global_norm(grads)
        metrics = {"gradient_norm": norm, "learning_rate": self.optimizer.learning_rate(step)}
        metrics |= grouped.norms("gradient_norm", grads) | grouped.learning_rates(step)
        if cfg.clip_norm is not None:
            grads = clip_by_global_norm(grads, norm, cfg.clip_norm)
        updates, opt_state = grouped.transformation.update(grads, opt_state, trained, step=step)
        updates = grouped.scaled(updates)
        metrics["update_norm"] = global_norm(updates)
        metrics |= grouped.norms("update_norm", updates)
        changed = merge_trees(params, optax.apply_updates(trained, updates))
        return LearnerUpdate(changed, opt_state, metrics)

    def trained(self, tree: dict[str, Any]) -> dict[str, Any]:
        return self._grouped.trained(tree)

    def evaluation_params(self, params: Params, opt_state: Any) -> Params:
        return self._grouped.evaluation_params(params, opt_state)

    def state_axes(self) -> Any:
        return state_axes(self._grouped.transformation, self._grouped.specs)
