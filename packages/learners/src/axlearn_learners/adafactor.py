"""Adafactor: the second moment of a matrix from its rows and columns."""

from __future__ import annotations

import optax

from axlearn_core.config import ConfigBase
from axlearn_core.module.parameters import ParameterSpecs
from axlearn_learners.blocks import per_layer
from axlearn_learners.optimizers import DecayedOptimizer, check_decay_rates, check_positive


class Adafactor(DecayedOptimizer):
    """Normalizes gradients by a factored second moment (arXiv:1804.04235).

    R, C = means of g^2 + 1e-30 over columns and rows, decayed by 1 - t^-decay_exponent
    u = g / sqrt(R C / mean(R));   u = u / max(1, RMS(u) / clip_rms)
    direction = u * max(1e-3, RMS(p)), or u unless `relative`

    The two largest dimensions are factored. All is per layer, also where layers are stacked.
    Deviations: the learning rate scales the decay, and gives the schedule that the paper fixes.

    State of [n, m]: n + m numbers (n * m where a dimension is too small), and as many again as
    there are parameters with momentum.
    """

    class Config(DecayedOptimizer.Config):
        decay_exponent: float = 0.8  # > 0
        min_dim_to_factor: int = 128  # smaller dimensions are not factored
        clip_rms: float | None = 1.0  # limit of the RMS of a normalized gradient; None: no limit
        relative: bool = True  # the rate is a fraction of the parameter's RMS
        momentum: float | None = None  # decay of the mean of updates, 0 to 1 (exclusive)
        weight_decay: float = 0.0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        cfg = self.config
        check_decay_rates(momentum=cfg.momentum or 0.0)
        check_positive(decay_exponent=cfg.decay_exponent, clip_rms=cfg.clip_rms)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        cfg = self.config
        steps = [
            optax.scale_by_factored_rms(
                decay_rate=cfg.decay_exponent, min_dim_size_to_factor=cfg.min_dim_to_factor
            )
        ]
        if cfg.clip_rms is not None:
            steps.append(optax.clip_by_block_rms(cfg.clip_rms))
        if cfg.relative:
            steps.append(optax.scale_by_param_block_rms())
        if cfg.momentum is not None:
            steps.append(optax.ema(cfg.momentum, debias=False))
        return per_layer(optax.chain(*steps), specs)
