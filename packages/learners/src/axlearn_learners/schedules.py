"""Learning rates over time.

A schedule maps the number of updates made so far to the rate of the next one: the first update has
step 0, the last step `total_steps - 1`. Rates reach 0 one step *before* the first and one step
*after* the last update, so that no update is wasted; optax and transformers start at a rate of 0.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigBase, ConfigError
from axlearn_core.training.schedule import Schedule, Step


class Constant(Schedule):
    """The same rate at every step."""

    class Config(Schedule.Config):
        value: float = REQUIRED  # >= 0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        if self.config.value < 0:
            raise ConfigError(
                f"value (={self.config.value}) must not be negative: updates would climb the loss"
            )

    def __call__(self, step: Step) -> jax.Array:
        return jnp.asarray(self.config.value, jnp.float32)


class _WarmUp(Schedule):
    """A linear rise over W steps, then what the subclass makes of the rest.

    rate(s) = peak * (s + 1) / (W + 1)   for s < W,   and rate(W) = peak.
    """

    class Config(Schedule.Config):
        peak: float = REQUIRED  # the highest rate, > 0
        warmup: float = 0.0  # steps; below 1: fraction of total_steps; 0: none
        final_fraction: float = 0.0  # of the peak, reached at total_steps; 0 to 1

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        cfg = self.config
        if cfg.total_steps is None:
            raise ConfigError(
                "total_steps is not set, and no learner gave it; write its number of updates"
            )
        if cfg.peak <= 0:
            raise ConfigError(
                f"peak (={cfg.peak}) must be positive; to train nothing, freeze a group"
            )
        if not 0 <= cfg.final_fraction <= 1:
            raise ConfigError(f"final_fraction (={cfg.final_fraction}) must be from 0 to 1")
        self._total_steps = cfg.total_steps
        self._warmup = self._steps("warmup")

    def _steps(self, name: str) -> int:
        """Reads a length that is a fraction of the run (below 1) or a number of steps."""
        total, value = self._total_steps, getattr(self.config, name)
        if value < 0 or (value >= 1 and value != int(value)):
            raise ConfigError(
                f"{name} (={value}) must be a fraction below 1 or a whole number of steps"
            )
        steps = round(value * total) if value < 1 else int(value)
        if steps > total:
            raise ConfigError(
                f"{name} (={steps} steps) must not be longer than the run, total_steps (={total}); "
                "write a fraction such as 0.1, or set learner.total_steps to the full length"
            )
        return steps

    def _ahead(self, step: jax.Array, start: int) -> jax.Array:
        """Returns how much of the way from `start` to the end is left, 1 to 0."""
        length = max(self._total_steps - start, 1)
        left = jnp.maximum(self._total_steps - step, 0) / length
        return jnp.where(step <= start, 1.0, left)  # compilers round x / x to less than 1

    def _rate(self, step: jax.Array, fall: jax.Array) -> jax.Array:
        """Puts the rise before a fall from 1 to 0."""
        final = self.config.final_fraction
        rise = (step + 1) / (self._warmup + 1)
        return self.config.peak * jnp.where(step < self._warmup, rise, final + (1 - final) * fall)


class WarmupCosine(_WarmUp):
    """Linear warm-up, then half a cosine (arXiv:1608.03983, without restarts).

    rate(s) = final + (peak - final) * (1 + cos(pi * (s - W) / (T - W))) / 2   for W <= s <= T
    """

    def __call__(self, step: Step) -> jax.Array:
        s = jnp.asarray(step, jnp.float32)
        return self._rate(s, (1 - jnp.cos(jnp.pi * self._ahead(s, self._warmup))) / 2)


class WarmupLinear(_WarmUp):
    """Linear warm-up, then a line down to the final rate (as in BERT, arXiv:1810.04805).

    rate(s) = final + (peak - final) * (T - s) / (T - W)   for W <= s <= T
    """

    def __call__(self, step: Step) -> jax.Array:
        s = jnp.asarray(step, jnp.float32)
        return self._rate(s, self._ahead(s, self._warmup))


class InverseSquareRoot(_WarmUp):
    """Linear warm-up, then one over the square root of the step (arXiv:1706.03762).

    rate(s) = peak * sqrt((W + 1) / (s + 1))   for s >= W

    That of the paper has W - 1 for W, and peak = (width * W)^-0.5. It ends nowhere: the length of
    the run decides only what a warm-up below 1 means. `final_fraction` is the lowest rate.
    """

    def __call__(self, step: Step) -> jax.Array:
        s = jnp.asarray(step, jnp.float32)
        root = jnp.sqrt((self._warmup + 1) / jnp.maximum(s + 1, self._warmup + 1))
        fraction = jnp.maximum(root, self.config.final_fraction)
        return self.config.peak * jnp.where(
            s < self._warmup, (s + 1) / (self._warmup + 1), fraction
        )


class WarmupStableDecay(_WarmUp):
    """Linear warm-up, then the peak for most of the run, then decay (arXiv:2404.06395).

    rate(s) = peak                                          for W <= s <= T - D
    rate(s) = final + (peak - final) * (T - s) / D          for T - D <= s <= T

    The paper decays exponentially; a line ends at the final rate exactly and does as well.
    """

    class Config(_WarmUp.Config):
        decay: float = 0.1  # steps; below 1: fraction of total_steps

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        self._decay = self._steps("decay")
        if self._warmup + self._decay > self._total_steps:
            raise ConfigError(
                f"warmup (={self._warmup} steps) and decay (={self._decay} steps) must fit into "
                f"total_steps (={self._total_steps}); make one of them shorter"
            )

    def __call__(self, step: Step) -> jax.Array:
        s = jnp.asarray(step, jnp.float32)
        return self._rate(s, self._ahead(s, self._total_steps - self._decay))


def as_schedule(rate: float | Schedule.Config) -> Schedule:
    """Builds a schedule; a number is a constant rate."""
    config: Any = rate if isinstance(rate, ConfigBase) else Constant.Config(value=rate)
    schedule: Schedule = config.instantiate()
    return schedule
