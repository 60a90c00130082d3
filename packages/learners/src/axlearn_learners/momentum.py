"""Optimizers whose only memory is a mean of gradients."""

from __future__ import annotations

import optax

from axlearn_core.config import ConfigBase
from axlearn_core.module.parameters import ParameterSpecs
from axlearn_learners.optimizers import DecayedOptimizer, check_decay_rates


class SGD(DecayedOptimizer):
    """Gradient descent with momentum, as torch defines it.

    m = momentum * m + g;   direction = m, or g + momentum * m with Nesterov's look ahead.

    State: 1 number per parameter, none without momentum.
    """

    class Config(DecayedOptimizer.Config):
        momentum: float = 0.9  # 0 to 1 (exclusive); 0: none
        nesterov: bool = False  # look ahead by one step of momentum
        weight_decay: float = 0.0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        check_decay_rates(momentum=self.config.momentum)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        cfg = self.config
        return optax.trace(cfg.momentum, cfg.nesterov) if cfg.momentum else optax.identity()


class Lion(DecayedOptimizer):
    """The sign of a mean of gradients (arXiv:2302.06675).

    direction = sign(b1 * m + (1 - b1) * g);   m = b2 * m + (1 - b2) * g

    Every number moves by the rate, so the paper takes rates 3 to 10 times below AdamW's, and as
    much more decay. State: 1 number per parameter.
    """

    class Config(DecayedOptimizer.Config):
        b1: float = 0.9  # of the mean in the update, 0 to 1 (exclusive)
        b2: float = 0.99  # of the mean that is kept, 0 to 1 (exclusive)
        weight_decay: float = 1.0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        check_decay_rates(b1=self.config.b1, b2=self.config.b2)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        return optax.scale_by_lion(self.config.b1, self.config.b2)
