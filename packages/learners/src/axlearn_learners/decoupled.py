"""Weight decay that the learning rate does not scale."""

from __future__ import annotations

from typing import Any

import jax
import optax

from axlearn_core.config import ConfigBase
from axlearn_core.module.parameters import ParameterSpecs
from axlearn_core.training.schedule import Schedule, Step
from axlearn_learners.optimizers import Optimizer, check_decay_rates, decay_scales
from axlearn_learners.schedules import as_schedule


class DecoupledOptimizer(Optimizer):
    """Steps that decay weights by the schedule alone, as arXiv:1711.05101 has it.

    p = p - schedule * (learning_rate * direction + weight_decay * p)

    Subclasses say what the direction is. The metric `learning_rate` is schedule * learning_rate.
    """

    class Config(Optimizer.Config):
        schedule: float | Schedule.Config = 1.0  # multiplies rate and decay; its peak is mostly 1
        weight_decay: float = 3.16e-4  # per step, whatever the rate; 0: none
        no_decay: str | None = None  # regular expression for whole paths ("decoder/norm/scale")

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        self._schedule, self._rate = as_schedule(self.config.schedule), self.learning_rate
        self.learning_rate = lambda step: self._schedule(step) * self._rate(step)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        """Returns the transformation of gradients into what the rate multiplies."""
        raise NotImplementedError(type(self))

    def transformation(self, specs: ParameterSpecs) -> optax.GradientTransformationExtraArgs:
        scales = decay_scales(specs, self.config.no_decay)
        return optax.chain(self.direction(specs), self._descend(scales))

    def _descend(self, scales: dict[str, float]) -> optax.GradientTransformationExtraArgs:
        strength = self.config.weight_decay

        def update(
            updates: Any, state: Any, params: Any, *, step: Step, **extra: Any
        ) -> tuple[Any, Any]:
            schedule, rate = self._schedule(step), self._rate(step)

            def one(path: Any, u: jax.Array, p: jax.Array) -> jax.Array:
                decay = strength * scales[jax.tree_util.keystr(path, simple=True, separator="/")]
                return (-schedule * (rate * u + decay * p)).astype(u.dtype)

            return jax.tree_util.tree_map_with_path(one, updates, params), state

        return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


class DecoupledAdamW(DecoupledOptimizer):
    """Adam whose weight decay is free of the learning rate (arXiv:1711.05101, algorithm 2).

    direction = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), with Adam's moments m and v.

    State: 2 numbers per parameter. What torch and optax call AdamW is `AdamW`.
    """

    class Config(DecoupledOptimizer.Config):
        b1: float = 0.9  # decay of the mean of gradients, 0 to 1 (exclusive)
        b2: float = 0.95  # decay of the mean of squared gradients, likewise
        eps: float = 1e-8  # added to the root of the second moment, > 0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        check_decay_rates(b1=self.config.b1, b2=self.config.b2)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        cfg = self.config
        return optax.scale_by_adam(cfg.b1, cfg.b2, cfg.eps)
