"""Optimizers: compositions of optax transformations."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import optax

from axlearn_core.config import REQUIRED, ConfigBase, ConfigError, Configurable
from axlearn_core.module.parameters import ParameterSpecs, flatten_paths
from axlearn_core.training.learner import Params
from axlearn_core.training.schedule import Schedule, Step
from axlearn_learners.schedules import as_schedule


class Optimizer(Configurable):
    """Makes an optax transformation whose update is added to the parameters.

    The transformation gets the number of updates so far as the keyword `step`, rather than count
    them itself: a skipped or resumed step cannot move the schedule.
    """

    class Config(Configurable.Config):
        learning_rate: float | Schedule.Config = REQUIRED  # a constant, or over time

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        self.learning_rate: Callable[[Step], jax.Array] = as_schedule(self.config.learning_rate)

    def transformation(self, specs: ParameterSpecs) -> optax.GradientTransformationExtraArgs:
        """Returns the transformation for parameters with these declarations."""
        raise NotImplementedError(type(self))

    def evaluation_params(self, params: Params, state: Any) -> Params:
        """Returns the parameters to evaluate with, which are mostly those that are trained."""
        return params


class DecayedOptimizer(Optimizer):
    """Steps along a direction, with weight decay that the learning rate scales too.

    p = p - learning_rate * (direction + weight_decay * weight_decay_scale * p)

    Subclasses say what the direction is; parameters declare the `weight_decay_scale`.
    """

    class Config(Optimizer.Config):
        weight_decay: float = 0.1  # per unit of learning rate, 0: none; torch: 0.01
        no_decay: str | None = None  # regular expression for whole paths ("decoder/norm/scale")

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        """Returns the transformation of gradients into what the rate multiplies."""
        raise NotImplementedError(type(self))

    def transformation(self, specs: ParameterSpecs) -> optax.GradientTransformationExtraArgs:
        scales = decay_scales(specs, self.config.no_decay)
        return optax.chain(
            self.direction(specs),
            add_decayed_weights(self.config.weight_decay, scales),
            scale_by_rate(self.learning_rate),
        )


class AdamW(DecayedOptimizer):
    """Adam with decoupled weight decay (arXiv:1711.05101).

    m = b1 * m + (1 - b1) * g;   v = b2 * v + (1 - b2) * g^2
    p = p - rate * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * p)

    As in torch and optax, the rate scales the decay too; in the paper only the schedule does, so
    its decay is this one times the peak rate. In torch one excludes gains and biases from decay by
    parameter groups; here they declare a `weight_decay_scale` of 0, and `no_decay` adds to them.

    State: 2 numbers per parameter.
    """

    class Config(DecayedOptimizer.Config):
        b1: float = 0.9  # decay of the mean of gradients, 0 to 1 (exclusive)
        b2: float = 0.95  # decay of the mean of squared gradients, 0 to 1 (exclusive); torch: 0.999
        eps: float = 1e-8  # added to the root of the second moment, > 0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        check_decay_rates(b1=self.config.b1, b2=self.config.b2)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        cfg = self.config
        return optax.scale_by_adam(cfg.b1, cfg.b2, cfg.eps)


def check_decay_rates(**rates: float) -> None:
    """Raises a ConfigError for a mean that would never forget, or grow."""
    for name, value in rates.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name} (={value}) must be at least 0 and less than 1")


def check_positive(**values: float | None) -> None:
    """Raises a ConfigError for a number that is not above 0; None is none."""
    for name, value in values.items():
        if value is not None and value <= 0:
            raise ConfigError(f"{name} (={value}) must be positive")


def decay_scales(specs: ParameterSpecs, no_decay: str | None) -> dict[str, float]:
    """Returns by path what multiplies the weight decay: 0 where the path matches `no_decay`.

    Raises:
        ConfigError: if the expression matches no parameter.
    """
    scales = {path: spec.weight_decay_scale for path, spec in flatten_paths(specs).items()}
    if no_decay is None:
        return scales
    matched = [path for path in scales if re.fullmatch(no_decay, path)]
    if not matched:
        raise ConfigError(
            f"no_decay (={no_decay!r}) matches no parameter. It must match a whole path, "
            f"such as '.*/bias'; the paths are: {', '.join(scales)}"
        )
    return scales | dict.fromkeys(matched, 0.0)


def add_decayed_weights(strength: float, scales: dict[str, float]) -> optax.GradientTransformation:
    """Adds `strength * scale * parameter` to the update of every parameter."""

    def update(updates: Any, params: Any) -> Any:
        def one(path: Any, u: jax.Array, p: jax.Array) -> jax.Array:
            decay = strength * scales[jax.tree_util.keystr(path, simple=True, separator="/")]
            return u + decay * p if decay else u

        return jax.tree_util.tree_map_with_path(one, updates, params)

    return optax.stateless(update)


def scale_by_rate(schedule: Callable[[Step], jax.Array]) -> optax.GradientTransformationExtraArgs:
    """Multiplies by `-schedule(step)`, which turns a direction of ascent into a step of descent."""

    def update(
        updates: Any, state: Any, params: Any = None, *, step: jax.Array, **extra: Any
    ) -> tuple[Any, Any]:
        rate = -schedule(step)
        return jax.tree.map(lambda u: rate.astype(u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
