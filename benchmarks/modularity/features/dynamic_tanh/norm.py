"""A normalisation that takes no statistics."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.module import Constant, ParameterSpec, no_context, ones, zeros
from axlearn_layers import Norm


class DynamicTanh(Norm):
    """y = tanh(alpha x) * scale + bias, alpha one learned number (DyT, arXiv:2503.10622)."""

    class Config(Norm.Config):
        alpha: float = 0.5  # at first

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        alpha = Constant.default_config().set(value=cfg.alpha).instantiate()
        shape, axes = (cfg.input_dim,), (cfg.axis,)
        return {
            "alpha": ParameterSpec((), (), alpha, cfg.dtype, weight_decay_scale=0.0),
            "scale": ParameterSpec(shape, axes, ones, cfg.dtype, weight_decay_scale=0.0),
            "bias": ParameterSpec(shape, axes, zeros, cfg.dtype, weight_decay_scale=0.0),
        }

    def forward(self, x: jax.Array) -> jax.Array:
        squashed = jnp.tanh(self.param("alpha") * x.astype(jnp.float32))
        return (squashed * self.param("scale") + self.param("bias")).astype(x.dtype)
