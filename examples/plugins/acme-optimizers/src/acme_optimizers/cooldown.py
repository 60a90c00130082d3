"""A schedule: a function from step to learning rate, with a config."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from axlearn_core.config import REQUIRED, ConfigBase, ConfigError
from axlearn_core.training import Schedule, Step


class SquareRootCooldown(Schedule):
    """Any schedule, brought to 0 by the 1-sqrt law at its end (arXiv:2405.18392).

    rate(s) = schedule(s)                                       for s <= T - D
    rate(s) = schedule(s) * (1 - sqrt((s - (T - D)) / D))       for T - D <= s <= T

    T is the length of the run. A constant rate after a warm-up, as the paper has it, is
    `WarmupLinear.Config(peak=..., warmup=..., final_fraction=1.0)`.
    """

    class Config(Schedule.Config):
        schedule: Schedule.Config = REQUIRED  # of the rate, which goes on as it is until then
        cooldown: float = 0.2  # D in steps; below 1: fraction of total_steps

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        cfg = self.config
        if cfg.total_steps is None:
            raise ConfigError(
                "total_steps is not set, and no learner gave it; write its number of updates"
            )
        steps = cfg.cooldown if cfg.cooldown >= 1 else round(cfg.cooldown * cfg.total_steps)
        if not 1 <= steps <= cfg.total_steps:
            raise ConfigError(
                f"cooldown (={cfg.cooldown}) must be from 1 step to all of the run, total_steps "
                f"(={cfg.total_steps}), or a fraction of it"
            )
        self._start, self._steps = cfg.total_steps - steps, steps
        if cfg.schedule.total_steps is None:
            cfg.schedule.total_steps = cfg.total_steps
        self._schedule: Schedule = cfg.schedule.instantiate()

    def __call__(self, step: Step) -> jax.Array:
        way = jnp.clip((jnp.asarray(step, jnp.float32) - self._start) / self._steps, 0, 1)
        return self._schedule(step) * (1 - jnp.sqrt(way))
