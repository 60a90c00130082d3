"""AdaStar, the optimizer behind arXiv:2407.21075."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from axlearn_core.config import ConfigBase
from axlearn_core.module.parameters import ParameterSpec, ParameterSpecs
from axlearn_learners.blocks import block_dims
from axlearn_learners.decoupled import DecoupledOptimizer
from axlearn_learners.optimizers import check_decay_rates, check_positive


class AdaStar(DecoupledOptimizer):
    """Momentum of normalized gradients, each of which is clipped (arXiv:2407.21075).

    v = EMA(b2) of g^2 + eps;   u = g / sqrt(v / (1 - b2^t));   u = u / max(1, RMS(u) / clip_rms)
    m = EMA(b1) of u, not debiased;   p = p - schedule * (learning_rate * m + weight_decay * p)

    RMS is over one layer's parameter, also where layers are stacked. As published it runs within
    `SkipSteps`, whose `OptaxLearner` clips gradients to a global norm of 1.

    State: 2 numbers per parameter.
    """

    class Config(DecoupledOptimizer.Config):
        b1: float = 0.95  # decay of the mean of updates, 0 to 1 (exclusive)
        b2: float = 0.95  # decay of the mean of squared gradients, 0 to 1 (exclusive)
        eps: float = 1e-30  # added to squared gradients, > 0
        clip_rms: float = 1.0  # limit of the RMS of a normalized gradient, > 0

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        check_decay_rates(b1=self.config.b1, b2=self.config.b2)
        check_positive(eps=self.config.eps, clip_rms=self.config.clip_rms)

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        cfg = self.config
        return scale_by_adastar(specs, cfg.b1, cfg.b2, cfg.eps, cfg.clip_rms)


class AdaStarState(NamedTuple):
    """What AdaStar remembers.

    Attributes:
        updates: [] int32, how many updates were made.
        m: the mean of normalized, clipped gradients.
        v: the mean of squared gradients, without its correction.
    """

    updates: jax.Array
    m: Any
    v: Any


def scale_by_adastar(
    specs: ParameterSpecs, b1: float, b2: float, eps: float, clip_rms: float
) -> optax.GradientTransformation:
    """Replaces gradients by AdaStar's m."""

    def init(params: Any) -> AdaStarState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdaStarState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.copy, zeros))

    def update(grads: Any, state: AdaStarState, params: Any = None) -> tuple[Any, AdaStarState]:
        count = state.updates + 1
        seen = -jnp.expm1(count * math.log(b2)) if b2 else jnp.ones(())  # 1 - b2^t, exactly
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * (jnp.square(g) + eps), state.v, grads)

        def normalized(spec: ParameterSpec, g: jax.Array, v: jax.Array) -> jax.Array:
            u = g / jnp.sqrt(v / seen.astype(v.dtype))
            mean = jnp.mean(jnp.square(u), axis=block_dims(spec), keepdims=True)
            return u / jnp.maximum(1, jnp.sqrt(mean) / clip_rms)

        u = jax.tree.map(normalized, specs, grads, v)
        m = jax.tree.map(lambda m, u: b1 * m + (1 - b1) * u, state.m, u)
        return m, AdaStarState(count, m, v)

    return optax.GradientTransformation(init, update)
