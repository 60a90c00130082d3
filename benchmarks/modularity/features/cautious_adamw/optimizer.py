"""AdamW without the steps that go against the gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from axlearn_core.module import ParameterSpecs
from axlearn_learners import AdamW


class CautiousAdamW(AdamW):
    """AdamW's direction u, where its sign is the gradient's (arXiv:2411.16085).

    direction = u * mask / mean(mask), mask = [u g > 0], the mean being that of one parameter and at
    least `floor`.
    """

    class Config(AdamW.Config):
        floor: float = 1e-3  # of the mean of the mask

    def direction(self, specs: ParameterSpecs) -> optax.GradientTransformation:
        adam, floor = super().direction(specs), self.config.floor

        def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            updates, state = adam.update(grads, state, params)

            def cautious(update: jax.Array, gradient: jax.Array) -> jax.Array:
                mask = (update * gradient > 0).astype(update.dtype)
                return update * mask / jnp.maximum(mask.mean(), floor)

            return jax.tree.map(cautious, updates, grads), state

        return optax.GradientTransformation(adam.init, update)
