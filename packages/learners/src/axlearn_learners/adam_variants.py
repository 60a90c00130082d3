"""Relatives of Adam: a second mean, a denominator from before, steps sized by layer."""

from __future__ import annotations

import optax
from optax import contrib

from axlearn_core.config import ConfigBase
from axlearn_core.module.parameters import ParameterSpecs
from axlearn_learners.blocks import per_layer
from axlearn_learners.optimizers import (
    DecayedOptimizer,
    add_decayed_weights,
    check_decay_rates,
    decay_scales,
    scale_by_rate,
)


class AdEMAMix(DecayedOptimizer):
    """Adam with a second, much slower mean of gradients (arXiv:2409.03137).

    direction = (m1 / (1 - b1^t) + alpha * m2) / (sqrt(v / (1 - b2^t)) + eps), where m1, m2 and v
    decay by b1, b3 and b2.

    Deviation: alpha and b3 are constant; the paper raises both over the run.
    State: 3 numbers per parameter.
    """

    class Config(DecayedOptimizer.Config):
        b1: float = 0.9  # of the fast mean, 0 to 1 (exclusive)
        b2: float = 0.999  # of squared gradients, 0 to 1 (exclusive)
        b3: float = 0.9999  # of the slow mean, 0 to 1 (exclusive)
        alpha: float = 5.0  # weight of the slow mean
        eps: float = 1e-8  # added to the root of the second moment, > 0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        check_decay_rates(b1=self.config.b1, b2=self.config.b2, b3=self.config.b3)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        cfg = self.config
        return contrib.scale_by_ademamix(cfg.b1, cfg.b2, cfg.b3, cfg.alpha, cfg.eps)


class ADOPT(DecayedOptimizer):
    """Adam that divides by the second moment of the steps before (arXiv:2411.02853).

    u = g / max(sqrt(v), eps), with v from before this step, cut to +-(t - 1)^0.25
    m = b1 * m + (1 - b1) * u;   v = b2 * v + (1 - b2) * g^2;   direction = m

    It converges with any b2. The first update only sets v = g^2 (and decays weights).
    State: 2 numbers per parameter.
    """

    class Config(DecayedOptimizer.Config):
        b1: float = 0.9  # decay of the mean of normalized gradients, 0 to 1 (exclusive)
        b2: float = 0.9999  # decay of the mean of squared gradients, 0 to 1 (exclusive)
        eps: float = 1e-6  # least root of the second moment, > 0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        check_decay_rates(b1=self.config.b1, b2=self.config.b2)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        cfg = self.config
        return contrib.scale_by_adopt(cfg.b1, cfg.b2, cfg.eps)


class LAMB(DecayedOptimizer):
    """Adam with steps as large as the parameter, for large batches (arXiv:1904.00962).

    u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * p
    p = p - rate * u * |p| / |u|,   where the ratio is 1 if either norm is 0

    Norms are those of one layer's parameter, also where layers are stacked. As in the paper's
    algorithm, gains and biases are scaled too, which some implementations leave out.
    State: 2 numbers per parameter.
    """

    class Config(DecayedOptimizer.Config):
        b1: float = 0.9  # decay of the mean of gradients, 0 to 1 (exclusive)
        b2: float = 0.999  # decay of the mean of squared gradients, 0 to 1 (exclusive)
        eps: float = 1e-6  # added to the root of the second moment, > 0
        weight_decay: float = 0.01

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        check_decay_rates(b1=self.config.b1, b2=self.config.b2)

    def transformation(self, specs: ParameterSpecs) -> optax.GradientTransformationExtraArgs:
        cfg = self.config
        return optax.chain(
            optax.scale_by_adam(cfg.b1, cfg.b2, cfg.eps),
            add_decayed_weights(cfg.weight_decay, decay_scales(specs, cfg.no_decay)),
            per_layer(optax.scale_by_trust_ratio(), specs),
            scale_by_rate(self.learning_rate),
        )
