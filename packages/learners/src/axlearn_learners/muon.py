"""Muon: updates whose singular values are all alike."""

from __future__ import annotations

import math
from typing import Any

import jax
import optax
from optax import contrib

from axlearn_core.config import REQUIRED, ConfigBase, ConfigError
from axlearn_core.module.parameters import ParameterSpec, ParameterSpecs, map_specs
from axlearn_learners.blocks import STACKED
from axlearn_learners.optimizers import (
    AdamW,
    DecayedOptimizer,
    Optimizer,
    add_decayed_weights,
    check_decay_rates,
    decay_scales,
    scale_by_rate,
)
from axlearn_learners.partition import partition, paths_by_label, pick

BATCH = (STACKED, "expert")  # dimensions over which matrices are stacked


class Muon(DecayedOptimizer):
    """Orthogonalizes the momentum of matrices (Jordan, 2024; arXiv:2502.16982).

    m = momentum * m + (1 - momentum) * g, debiased, with Nesterov's look ahead
    direction = U V^T * rms * sqrt(max(in, out)),   where U S V^T = m, by Newton-Schulz iteration

    With `rms` 0.2 updates are as large as AdamW's, so one rate and decay serve both (the paper's
    choice). A matrix maps `fan_in_axes` to the other dimensions, one per layer and expert; what is
    no matrix (gains, biases, and all with a "vocab" axis) is trained by `other`.

    Deviation: fused projections (query, key and value; gate and up) count as one matrix.
    State: 1 number per parameter of matrices, that of `other` for the rest.
    """

    class Config(DecayedOptimizer.Config):
        momentum: float = 0.95  # 0 to 1 (exclusive)
        nesterov: bool = True
        iterations: int = 5  # of Newton-Schulz
        rms: float | None = 0.2  # of updates; None: scale by sqrt(max(1, out / in)), as Jordan
        other: Optimizer.Config = AdamW.default_config()  # without a rate of its own: that of Muon

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        cfg = self.config
        check_decay_rates(momentum=cfg.momentum)
        if cfg.other.learning_rate is REQUIRED:
            cfg.other.learning_rate = cfg.learning_rate
        self.other: Optimizer = cfg.other.instantiate()

    def transformation(self, specs: ParameterSpecs) -> optax.GradientTransformationExtraArgs:
        paths = paths_by_label(lambda _, s: "matrices" if is_matrix(s) else "other", specs)
        if "matrices" not in paths:
            raise ConfigError(
                "Muon trains matrices, and none of these parameters is one: "
                f"{', '.join(sorted(paths.get('other', ()))) or '(none)'}; use AdamW"
            )
        matrices = pick(specs, paths["matrices"])
        scales = decay_scales(specs, self.config.no_decay)
        chained = optax.chain(
            self.direction(matrices),
            add_decayed_weights(self.config.weight_decay, scales),
            scale_by_rate(self.learning_rate),
        )
        transformations = {"matrices": chained}
        if "other" in paths:
            transformations["other"] = self.other.transformation(pick(specs, paths["other"]))
        return partition(transformations, paths)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        cfg = self.config
        muon = contrib.scale_by_muon(
            ns_steps=cfg.iterations,
            beta=cfg.momentum,
            nesterov=cfg.nesterov,
            weight_dimension_numbers=map_specs(_dimension_numbers, specs),
        )
        factors = map_specs(lambda spec: _size(spec, cfg.rms), specs)

        def scale(updates: Any, params: Any) -> Any:
            return jax.tree.map(lambda u, factor: u * factor, updates, factors)

        return optax.chain(muon, optax.stateless(scale))


def is_matrix(spec: ParameterSpec) -> bool:
    """Says whether a parameter maps vectors to vectors; gains and biases have no `fan_in_axes`."""
    numbers = _dimension_numbers(spec)
    return bool(numbers.reduction_axis and numbers.output_axis) and "vocab" not in spec.axes


def _dimension_numbers(spec: ParameterSpec) -> contrib.MuonDimensionNumbers:
    own = [i for i, name in enumerate(spec.axes) if name not in BATCH]
    inputs = tuple(i for i in own if i in spec.fan_in_axes)
    outputs = tuple(i for i in own if i not in spec.fan_in_axes)
    return contrib.MuonDimensionNumbers(inputs, outputs)


def _size(spec: ParameterSpec, rms: float | None) -> float:
    numbers = _dimension_numbers(spec)
    fan_in = math.prod(spec.shape[i] for i in numbers.reduction_axis)
    fan_out = math.prod(spec.shape[i] for i in numbers.output_axis)
    if rms is None:
        return math.sqrt(max(1, fan_out / fan_in))
    return rms * math.sqrt(max(fan_in, fan_out))
