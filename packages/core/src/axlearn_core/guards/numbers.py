"""Losses and gradients that are not finite, or spikes: what counts as one, and what follows.

The verdict is taken inside the step, before anything is updated, and from what the state itself
remembers, so it is the same on every process and after every resume.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError, Configurable
from axlearn_core.errors import UserError
from axlearn_core.guards.offence import Offence
from axlearn_core.observe.metrics import StepMetrics

Seen = dict[str, jax.Array]

# What rounding alone makes of a loss that stands still is no spike.
_LEAST_DEVIATION = 1e-3  # times the mean


class NonFiniteError(UserError):
    """The loss or the gradient became infinite or NaN, or a spike."""


class Rewind(Exception):
    """The run is to go back to its last checkpoint, and on with the data after the bad step."""

    def __init__(self, message: str, input_state: Mapping[str, Any], count: int):
        super().__init__(message)
        self.input_state = input_state
        self.count = count


class Numbers(Configurable):
    """Decides whether a step is made.

    A spike is a value above `mean + deviations * std` of the last `window` steps that were made
    (the population's standard deviation, but a thousandth of the mean at least). Until as many
    steps were seen, none is a spike. What is no number is never remembered.

    Policies: `stop` ends the run; `skip` leaves the update out, while the step counts for
    schedules; `rewind` goes back to the last checkpoint and on with the data that follow the bad
    batch, as in arXiv:2204.02311 (PaLM), section 5.1. Whichever it is, the batch is saved below
    `faults/`.
    """

    class Config(Configurable.Config):
        policy: Literal["stop", "skip", "rewind"] = "stop"
        loss_deviations: float | None = None  # above the mean, > 0; null: no loss is a spike
        gradient_deviations: float | None = None  # the same for the gradient's norm
        window: int = 100  # steps, at least 2
        max_skips: int = 10  # steps in a row that may be skipped; one more ends the run
        max_rewinds: int = 3  # in all; one more ends the run

    def __init__(self, config: Config):
        super().__init__(config)
        for name in ("loss_deviations", "gradient_deviations"):
            value = getattr(config, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} (={value}) must be above 0; write null for no limit")
        if config.window < 2:
            raise ConfigError(f"window (={config.window}) must be at least 2")
        self.skips = config.policy == "skip"
        self.rewinds = config.policy == "rewind"
        self._limits = {
            name: limit
            for name, limit in (
                ("loss", config.loss_deviations),
                ("gradient_norm", config.gradient_deviations),
            )
            if limit is not None
        }

    def initial(self) -> Seen:
        """Returns what is remembered before the first step."""
        seen = {name: jnp.zeros(self.config.window) for name in self._limits}
        counts = {"made"} if self._limits else set()
        counts |= {"skipped"} if self.skips else set()
        return seen | {name: jnp.zeros((), jnp.int32) for name in counts}

    def shapes(self) -> dict[str, list[int]]:
        """Returns the shapes of `initial()`, for a checkpoint's facts."""
        return {name: list(x.shape) for name, x in jax.eval_shape(self.initial).items()}

    def judge(
        self, seen: Seen, finite: jax.Array, loss: jax.Array, gradient_norm: jax.Array
    ) -> tuple[jax.Array, Seen]:
        """Returns whether the step is good, and what to remember then.

        Args:
            seen: as `initial` gives it.
            finite: [] bool, whether the step could be made at all.
            loss: [] float.
            gradient_norm: [] float.
        """
        values = {"loss": loss, "gradient_norm": gradient_norm}
        good = finite
        for name, limit in self._limits.items():
            good &= ~self._is_spike(seen, name, values[name], limit)
        after = dict(seen)
        if self._limits:
            numbers = [jnp.isfinite(values[name]) for name in self._limits]
            kept = good & jnp.stack(numbers).all()
            place = seen["made"] % self.config.window
            for name in self._limits:
                after[name] = jnp.where(
                    kept, seen[name].at[place].set(values[name].astype(jnp.float32)), seen[name]
                )
            after["made"] = seen["made"] + kept
        if self.skips:
            after["skipped"] = seen["skipped"] + ~good
        return good, after

    def _is_spike(self, seen: Seen, name: str, value: jax.Array, limit: float) -> jax.Array:
        mean, std = jnp.mean(seen[name]), jnp.std(seen[name])
        highest = mean + limit * jnp.maximum(std, _LEAST_DEVIATION * jnp.abs(mean))
        return (seen["made"] >= self.config.window) & (value > highest)

    def metrics(self, seen: Seen) -> dict[str, jax.Array]:
        """Returns what to report of a policy that goes on."""
        return {"guards/skipped_steps": seen["skipped"]}


class Attempt(NamedTuple):
    """From where the steps since the last start, resume or rewind were made.

    Attributes:
        step: of the checkpoint, 0 at the start.
        input_state: where the data went on, None for their start.
        rewinds: so many led here.
    """

    step: int
    input_state: Mapping[str, Any] | None
    rewinds: int = 0


def attempt_from(step: int, facts: Mapping[str, Any], rewound: Rewind | None) -> Attempt:
    """Returns where the run goes on: at a checkpoint, but with later data after a rewind."""
    if rewound is not None:
        return Attempt(step, rewound.input_state, rewound.count)
    return Attempt(step, facts.get("input"), facts.get("guards", {}).get("rewinds", 0))


class _Made(NamedTuple):
    step: int
    batch: Mapping[str, jax.Array]
    input_state: Mapping[str, Any]


class NumbersWatch:
    """Reads the verdicts as they reach the host, and does what the policy says."""

    def __init__(
        self,
        numbers: Numbers,
        attempt: Attempt,
        directory: Path,
        say: Callable[[str], None],
        fault: Callable[[str, str], None],
    ):
        self._numbers = numbers
        self._config: Numbers.Config = numbers.config
        self._attempt = attempt
        self._directory = directory
        self._say = say
        self._fault = fault
        self._made: deque[_Made] = deque()  # whose verdicts are under way
        self._skips = 0

    def made(
        self, step: int, batch: Mapping[str, jax.Array], input_state: Mapping[str, Any]
    ) -> None:
        """Keeps a step's batch until its verdict is known."""
        self._made.append(_Made(step, batch, input_state))

    def arrived(self, metrics: StepMetrics) -> None:
        """Takes the verdict on a step.

        Raises:
            NonFiniteError: if the run is to end.
            Rewind: if it is to go back.
        """
        made = self._made.popleft()
        assert made.step == metrics.step
        if metrics.values["good"]:
            self._skips = 0
            return
        loss, norm = (float(metrics.values[name]) for name in ("loss", "gradient_norm"))
        finite = math.isfinite(loss) and math.isfinite(norm)
        problem = "is a spike" if finite else "is not finite"
        what = f"step {made.step}: the loss ({loss}) or the gradient norm ({norm}) {problem}."
        offence = Offence(made.step, loss, norm, problem, self._attempt)
        kept = offence.save(self._directory, made.batch)
        if self._config.policy == "skip" and self._skips < self._config.max_skips:
            self._skips += 1
            self._tell("step_skipped", f"{what} The update is skipped. {kept}")
        elif self._config.policy == "rewind" and self._attempt.rewinds < self._config.max_rewinds:
            count = self._attempt.rewinds + 1
            self._tell(
                "rewind",
                f"{what} Going back to the last checkpoint, and on with the data after this "
                f"batch (rewind {count} of {self._config.max_rewinds}). {kept}",
            )
            raise Rewind(f"rewinding from step {made.step}", made.input_state, count)
        else:
            raise NonFiniteError(
                f"{what} {self._why_it_ends()}The last checkpoint is intact. {kept}. Lower the "
                "learning rate, clip more tightly, look at this step's data, or let "
                "guards.numbers.policy skip or rewind"
            )

    def facts(self) -> dict[str, Any]:
        """Returns what a checkpoint has to remember."""
        return {"rewinds": self._attempt.rewinds, "seen": self._numbers.shapes()}

    def _tell(self, kind: str, line: str) -> None:
        self._say(line)
        self._fault(kind, line)

    def _why_it_ends(self) -> str:
        if self._config.policy == "stop":
            return "Nothing was updated from there on. "
        if self._config.policy == "skip":
            return f"As many as max_skips (={self._config.max_skips}) before it were skipped, too. "
        return f"There were max_rewinds (={self._config.max_rewinds}) already. "
