"""An optimizer: a chain of optax transformations, with a config."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from axlearn_core.config import ConfigBase, ConfigError
from axlearn_core.module import ParameterSpecs
from axlearn_learners import DecayedOptimizer, per_layer


class CautiousAdamW(DecayedOptimizer):
    """AdamW that moves only where its mean agrees with the gradient (arXiv:2411.16085).

    u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), with Adam's moments m and v
    p = p - rate * (u * mask / max(mean(mask), 0.001) + weight_decay * p),   mask = [u * g > 0]

    The mean is over a parameter, each layer of a stack by itself. The bound of it is that of the
    published code; the paper has n / (sum(mask) + 1) for 1 / mean(mask), of n numbers.
    State: 2 numbers per parameter.
    """

    class Config(DecayedOptimizer.Config):
        b1: float = 0.9  # decay of the mean of gradients, 0 to 1 (exclusive)
        b2: float = 0.95  # decay of the mean of squared gradients, likewise
        eps: float = 1e-8  # added to the root of the second moment

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        for name in ("b1", "b2"):
            if not 0 <= (value := getattr(self.config, name)) < 1:
                raise ConfigError(f"{name} (={value}) must be at least 0 and less than 1")

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        cfg = self.config
        return per_layer(cautious(optax.scale_by_adam(cfg.b1, cfg.b2, cfg.eps)), specs)


def cautious(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Leaves out where the updates of `inner` and gradients differ in sign, and scales the rest."""

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = inner.update(gradients, state, params)
        return jax.tree.map(_where_they_agree, updates, gradients), state

    return optax.GradientTransformation(inner.init, update)


def _where_they_agree(update: jax.Array, gradient: jax.Array) -> jax.Array:
    agree = update * gradient > 0
    share = jnp.maximum(jnp.mean(agree, dtype=jnp.float32), 1e-3)
    return jnp.where(agree, update, 0) / share.astype(update.dtype)
