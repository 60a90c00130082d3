"""Steps that are not made, because their gradient is no good."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigBase, ConfigError
from axlearn_core.module.parameters import ParameterSpecs
from axlearn_core.training.learner import LearnerUpdate, Params
from axlearn_learners.wrapper import LearnerWrapper


class SkipState(NamedTuple):
    """What is remembered of skipped steps.

    Attributes:
        learner: the state of the learner inside.
        skipped: [] int32, how many steps were skipped.
        mean_norm: [] float32, running mean of gradient norms, not debiased; 0 without a spike.
        weight: [] float32, what that mean's weights sum up to.
    """

    learner: Any
    skipped: jax.Array
    mean_norm: jax.Array
    weight: jax.Array


class SkipSteps(LearnerWrapper):
    """Leaves out the update of a step whose gradient is not finite, too large, or a spike.

    Parameters and the learner's state stay as they were, weight decay included; the step counts
    for schedules. A spike is a norm above `spike` times the mean of the norms before, of which the
    last `1 / (1 - mean_decay)` count most; as long as that many were not seen, none is a spike.

    Metrics: those of the learner inside, and `skipped` (0 or 1) and `skipped_steps` (in all).
    """

    class Config(LearnerWrapper.Config):
        max_norm: float | None = 100.0  # of the gradient, before clipping; None: no limit
        spike: float | None = None  # times the mean norm, > 1; None: no limit
        mean_decay: float = 0.99  # of the mean norm, 0 to 1 (exclusive)

    def __init__(self, config: ConfigBase, *, specs: ParameterSpecs) -> None:
        super().__init__(config, specs=specs)
        cfg = self.config
        if cfg.max_norm is not None and cfg.max_norm <= 0:
            raise ConfigError(
                f"max_norm (={cfg.max_norm}) must be positive; write None for no limit"
            )
        if cfg.spike is not None and cfg.spike <= 1:
            raise ConfigError(
                f"spike (={cfg.spike}) must be above 1, since it multiplies the mean norm; "
                "write None for no limit"
            )
        if not 0 < cfg.mean_decay < 1:
            raise ConfigError(f"mean_decay (={cfg.mean_decay}) must be above 0 and below 1")

    def init(self, params: Params) -> SkipState:
        zero = jnp.zeros((), jnp.float32)
        return SkipState(self.learner.init(params), jnp.zeros((), jnp.int32), zero, zero)

    def update(
        self, grads: Params, opt_state: SkipState, params: Params, step: jax.Array
    ) -> LearnerUpdate:
        made = self.learner.update(grads, opt_state.learner, params, step)
        norm = made.metrics["gradient_norm"]
        skip = ~self._good(norm, opt_state)

        def unless_skipped(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda n, o: jnp.where(skip, o, n), new, old)

        decay = self.config.mean_decay
        seen = opt_state._replace(
            learner=made.opt_state,
            mean_norm=decay * opt_state.mean_norm + (1 - decay) * norm,
            weight=decay * opt_state.weight + (1 - decay),
        )
        state = unless_skipped(seen, opt_state)._replace(skipped=opt_state.skipped + skip)
        told = {"skipped": skip.astype(jnp.float32), "skipped_steps": state.skipped}
        return LearnerUpdate(unless_skipped(made.params, params), state, made.metrics | told)

    def evaluation_params(self, params: Params, opt_state: SkipState) -> Params:
        return self.learner.evaluation_params(params, opt_state.learner)

    def state_axes(self) -> SkipState:
        scalar: Any = ()
        return SkipState(self.learner.state_axes(), scalar, scalar, scalar)

    def _good(self, norm: jax.Array, state: SkipState) -> jax.Array:
        """Says whether a step with this gradient norm is to be made."""
        cfg = self.config
        good = jnp.isfinite(norm)
        if cfg.max_norm is not None:
            good &= norm <= cfg.max_norm
        if cfg.spike is not None:
            known = state.weight > 1 - 1 / jnp.e  # as after 1 / (1 - mean_decay) steps
            good &= ~known | (norm * state.weight <= cfg.spike * state.mean_norm)
        return good
