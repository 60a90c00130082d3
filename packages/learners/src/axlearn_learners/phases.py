"""Schedules made of parts: points joined by lines, and schedules one after another."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigBase, ConfigError
from axlearn_core.training.schedule import Schedule, Step
from axlearn_learners.schedules import as_schedule


class Piecewise(Schedule):
    """Rates at given steps, with lines (or jumps) between them.

    rate(s) = r_i + (r_{i+1} - r_i) * (s - s_i) / (s_{i+1} - s_i)   for s_i <= s <= s_{i+1}

    Before the first point and after the last the rate is that of the point.
    """

    class Config(Schedule.Config):
        steps: list[int] = REQUIRED  # rising
        rates: list[float] = REQUIRED  # one per step
        jumps: bool = False  # keep each rate until the next step, instead of drawing lines

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        cfg = self.config
        if len(cfg.steps) != len(cfg.rates) or not cfg.steps:
            raise ConfigError(
                f"steps (={list(cfg.steps)}) and rates (={list(cfg.rates)}) must be as many as one "
                "another, and at least one; write one rate for each step"
            )
        if any(a >= b for a, b in zip(cfg.steps, cfg.steps[1:], strict=False)):
            raise ConfigError(f"steps (={list(cfg.steps)}) must rise; sort them, with their rates")
        if cfg.total_steps is not None and cfg.steps[-1] > cfg.total_steps:
            raise ConfigError(
                f"steps (={list(cfg.steps)}) must not go beyond the run, "
                f"total_steps (={cfg.total_steps}); drop the last ones, or make the run longer"
            )

    def __call__(self, step: Step) -> jax.Array:
        cfg = self.config
        steps, rates = jnp.asarray(cfg.steps), jnp.asarray(cfg.rates, jnp.float32)
        if cfg.jumps:
            reached = jnp.searchsorted(steps, jnp.asarray(step), side="right") - 1
            return rates[jnp.maximum(reached, 0)]
        return jnp.interp(jnp.asarray(step, jnp.float32), steps.astype(jnp.float32), rates)


class Phase(ConfigBase):
    """One part of `Phases`: a schedule, and how long it lasts."""

    schedule: Schedule.Config = REQUIRED  # whose step 0 is the phase's first
    steps: float | None = None  # from 1 on: steps; below: fraction of the run; None: what is left


class Phases(Schedule):
    """Schedules one after another, each with a name.

    rate(s) = schedule_i(s - start_i)   for start_i <= s < start_i + steps_i

    A schedule without `total_steps` spans its phase. The last one goes on after the end.
    """

    class Config(Schedule.Config):
        phases: dict[str, Phase] = REQUIRED  # by name, in the order of time

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        cfg = self.config
        if not cfg.phases:
            raise ConfigError("phases is empty; write at least one, such as {'all': Phase(...)}")
        lengths = self._lengths()
        for phase, steps in zip(cfg.phases.values(), lengths, strict=True):
            if phase.schedule.total_steps is None:
                phase.schedule.total_steps = steps
        self._schedules = [as_schedule(phase.schedule) for phase in cfg.phases.values()]
        self._starts = [sum(lengths[:i]) for i in range(len(lengths))]

    def __call__(self, step: Step) -> jax.Array:
        s = jnp.asarray(step)
        rate = self._schedules[0](s)
        for start, schedule in zip(self._starts[1:], self._schedules[1:], strict=True):
            rate = jnp.where(s < start, rate, schedule(jnp.maximum(s - start, 0)))
        return rate

    def _lengths(self) -> list[int]:
        """Returns how many steps each phase has."""
        total, phases = self.config.total_steps, self.config.phases
        if total is None:
            raise ConfigError(
                "total_steps is not set, and no learner gave it; write its number of updates"
            )
        steps = {name: _whole(name, phase.steps, total) for name, phase in phases.items()}
        open_ended = [name for name, n in steps.items() if n is None]
        left = total - sum(n for n in steps.values() if n is not None)
        shown = ", ".join(f"{name} (={n or 'what is left'})" for name, n in steps.items())
        if len(open_ended) > 1:
            raise ConfigError(f"only one phase may lack its steps, so that it is clear: {shown}")
        if left < 1 if open_ended else left != 0:
            raise ConfigError(
                f"the phases {shown} must fill total_steps (={total}) exactly; make one of them "
                "last `steps=None`, which is what is left, or the run longer"
            )
        return [left if n is None else n for n in steps.values()]


def _whole(name: str, steps: float | None, total: int) -> int | None:
    """Reads a length that is a fraction of the run (below 1) or a number of steps."""
    if steps is None:
        return None
    if steps <= 0 or (steps >= 1 and steps != int(steps)):
        raise ConfigError(
            f"phases[{name!r}].steps (={steps}) must be a fraction below 1 or a whole number of "
            "steps; write None for what is left"
        )
    whole = round(steps * total) if steps < 1 else int(steps)
    if whole == 0:
        raise ConfigError(
            f"phases[{name!r}].steps (={steps} of {total}) is less than half a step; drop the "
            "phase, or make it longer"
        )
    return whole
