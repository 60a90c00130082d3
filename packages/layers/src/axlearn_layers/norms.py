"""Normalisation over the last dimension.

Statistics are float32 whatever the input is. Nothing but the input is kept for the backward
pass: making the rest again costs less than storing and loading it.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED
from axlearn_core.module import Layer, ParameterSpec, no_context, ones, zeros


class Norm(Layer):
    """Maps [..., input_dim] to the same shape and dtype."""

    class Config(Layer.Config):
        input_dim: int = REQUIRED
        eps: float = 1e-6  # added to the variance

    def forward(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError(type(self))

    def _gain(self) -> ParameterSpec:
        cfg = self.config
        return ParameterSpec((cfg.input_dim,), ("embed",), ones, cfg.dtype, weight_decay_scale=0.0)


class RMSNorm(Norm):
    """y = x / sqrt(mean(x^2) + eps) * scale (arXiv:1910.07467)."""

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        return {"scale": self._gain()}

    def forward(self, x: jax.Array) -> jax.Array:
        y: jax.Array = _rms_norm(x, self.param("scale"), self.config.eps)
        return y


class LayerNorm(Norm):
    """y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias (arXiv:1607.06450)."""

    class Config(Norm.Config):
        eps: float = 1e-5  # added to the variance

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        bias = ParameterSpec((cfg.input_dim,), ("embed",), zeros, cfg.dtype, weight_decay_scale=0.0)
        return {"scale": self._gain(), "bias": bias}

    def forward(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        y: jax.Array = _layer_norm(x, self.param("scale"), self.param("bias"), cfg.eps)
        return y


@partial(jax.checkpoint, static_argnums=2)
def _rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    x32 = x.astype(jnp.float32)
    mean_square = jnp.mean(x32 * x32, axis=-1, keepdims=True)
    return (x32 * jax.lax.rsqrt(mean_square + eps) * scale).astype(x.dtype)


@partial(jax.checkpoint, static_argnums=3)
def _layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + eps) * scale + bias).astype(x.dtype)
