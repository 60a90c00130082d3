"""Learning without a schedule."""

from __future__ import annotations

from typing import Any

import optax
from optax import contrib

from axlearn_core.config import ConfigBase, ConfigError
from axlearn_core.module.parameters import ParameterSpecs
from axlearn_core.training.learner import Params
from axlearn_core.training.schedule import Step
from axlearn_learners.optimizers import (
    DecayedOptimizer,
    add_decayed_weights,
    check_decay_rates,
    decay_scales,
    scale_by_rate,
)


class ScheduleFreeAdamW(DecayedOptimizer):
    """AdamW whose weights are averaged instead of annealed (arXiv:2405.15682).

    y = (1 - b1) * z + b1 * x             where gradients are taken: these are the parameters
    z = z - rate * (g / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * y)
    x = (1 - c) * x + c * z               a mean of all z, weighted by rate^2; evaluate with these

    The rate stays at its peak after the warm-up. State: 2 numbers per parameter (z and v), x
    follows from y and z.
    """

    class Config(DecayedOptimizer.Config):
        b1: float = 0.9  # how far y is from z to x, above 0 and below 1
        b2: float = 0.95  # decay of the mean of squared gradients, 0 to 1 (exclusive)
        eps: float = 1e-8  # added to the root of the second moment, > 0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        cfg = self.config
        check_decay_rates(b1=cfg.b1, b2=cfg.b2)
        if cfg.b1 == 0:
            raise ConfigError("b1 (=0.0) must be above 0: x could not be told from y and z")

    def transformation(self, specs: ParameterSpecs) -> optax.GradientTransformationExtraArgs:
        scales = decay_scales(specs, self.config.no_decay)

        def at(step: Step) -> optax.GradientTransformationExtraArgs:
            rate = self.learning_rate(step)
            return contrib.schedule_free(self._base(scales), lambda _: rate, self.config.b1)

        def update(
            updates: Any, state: Any, params: Any = None, *, step: Step, **extra: Any
        ) -> tuple[Any, Any]:
            changed: tuple[Any, Any] = at(step).update(updates, state, params, step=step)
            return changed

        return optax.GradientTransformationExtraArgs(at(0).init, update)

    def _base(self, scales: dict[str, float]) -> optax.GradientTransformationExtraArgs:
        """Returns Adam's step without momentum, which makes z."""
        cfg = self.config
        rms = optax.scale_by_rms(cfg.b2, cfg.eps, eps_in_sqrt=False, bias_correction=True)
        decay = add_decayed_weights(cfg.weight_decay, scales)
        return optax.chain(rms, decay, scale_by_rate(self.learning_rate))

    def evaluation_params(self, params: Params, state: Any) -> Params:
        averaged: Params = contrib.schedule_free_eval_params(state, params)
        return averaged
