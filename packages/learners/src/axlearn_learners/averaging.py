"""A mean of the weights over time, to evaluate with."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigBase, ConfigError
from axlearn_core.module.parameters import ParameterSpecs, map_specs
from axlearn_core.training.learner import LearnerUpdate, Params
from axlearn_core.training.state import merge_trees
from axlearn_learners.wrapper import LearnerWrapper


class AverageState(NamedTuple):
    """The mean of weights beside the state of the learner inside."""

    learner: Any
    mean: Params


class AverageWeights(LearnerWrapper):
    """Evaluates with an exponential moving average of the weights (arXiv:1806.05594).

    mean = d * mean + (1 - d) * p after each update, from mean = p at the start;
    d = min(decay, (1 + t) / (10 + t)) after t updates, so that the start is soon forgotten.

    Training does not see the mean; evaluation and `axl generate` use nothing else.
    State: 1 number per parameter more, in its place; none for frozen ones. It is float32 at least,
    since a mean in bfloat16 would not move where 1 - d is below 2^-8.
    """

    class Config(LearnerWrapper.Config):
        decay: float = 0.999  # 0 to 1 (exclusive): about the last 1 / (1 - decay) updates count

    def __init__(self, config: ConfigBase, *, specs: ParameterSpecs) -> None:
        super().__init__(config, specs=specs)
        if not 0 <= self.config.decay < 1:
            raise ConfigError(f"decay (={self.config.decay}) must be at least 0 and less than 1")

    def init(self, params: Params) -> AverageState:
        def copied(p: jax.Array) -> jax.Array:
            return jnp.array(p, jnp.promote_types(p.dtype, jnp.float32))

        mean = jax.tree.map(copied, self.learner.trained(params))
        return AverageState(self.learner.init(params), mean)

    def update(
        self, grads: Params, opt_state: AverageState, params: Params, step: jax.Array
    ) -> LearnerUpdate:
        made = self.learner.update(grads, opt_state.learner, params, step)
        decay = jnp.minimum(self.config.decay, (1 + step) / (10 + step))

        def moved(mean: jax.Array, p: jax.Array) -> jax.Array:
            return mean + (1 - decay).astype(mean.dtype) * (p - mean)

        now = self.learner.evaluation_params(made.params, made.opt_state)
        mean = jax.tree.map(moved, opt_state.mean, self.learner.trained(now))
        return made._replace(opt_state=AverageState(made.opt_state, mean))

    def evaluation_params(self, params: Params, opt_state: AverageState) -> Params:
        trained = self.learner.trained(params)
        mean = jax.tree.map(lambda m, p: m.astype(p.dtype), opt_state.mean, trained)
        return merge_trees(params, mean)

    def state_axes(self) -> AverageState:
        axes: Any = map_specs(lambda spec: spec.axes, self.learner.trained(self.specs))
        return AverageState(self.learner.state_axes(), axes)
