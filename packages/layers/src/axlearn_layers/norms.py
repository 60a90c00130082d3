"""Normalisation over the last dimension.

Statistics are float32 whatever the input is. Nothing but the input is kept for the backward
pass: making the rest again costs less than storing and loading it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import Initializer, Layer, ParameterSpec, no_context, ones, zeros


class Norm(Layer):
    """Maps [..., input_dim] to the same shape and dtype."""

    class Config(Layer.Config):
        input_dim: int = REQUIRED
        eps: float = 1e-6  # added to the variance
        axis: str | None = "embed"  # logical axis of the parameters; parents set it

    def forward(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError(type(self))

    def _gain(self) -> ParameterSpec:
        return self._vector(ones)

    def _vector(self, initializer: Initializer) -> ParameterSpec:
        cfg = self.config
        shape, axes = (cfg.input_dim,), (cfg.axis,)
        return ParameterSpec(shape, axes, initializer, cfg.dtype, weight_decay_scale=0.0)


class RMSNorm(Norm):
    """y = x / sqrt(mean(x^2) + eps) * gain (arXiv:1910.07467).

    The gain is the parameter `scale`; with `zero_centred` it is 1 + scale, and scale starts at 0,
    as in Gemma (arXiv:2403.08295): stored in bfloat16, a gain near 1 is finer so.
    """

    class Config(Norm.Config):
        zero_centred: bool = False

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        return {"scale": self._vector(zeros) if self.config.zero_centred else self._gain()}

    def forward(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale")
        if self.config.zero_centred:
            scale = 1 + scale.astype(jnp.float32)
        y: jax.Array = _rms_norm(x, scale, self.config.eps)
        return y


class LayerNorm(Norm):
    """y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias (arXiv:1607.06450)."""

    class Config(Norm.Config):
        eps: float = 1e-5  # added to the variance

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        return {"scale": self._gain(), "bias": self._vector(zeros)}

    def forward(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        y: jax.Array = _layer_norm(x, self.param("scale"), self.param("bias"), cfg.eps)
        return y


class GroupNorm(Norm):
    """Layer norm of each of `num_groups` equal parts of a vector (arXiv:1803.08494).

    The paper's statistics run over all positions of an image too. Here each token has its own, or
    else it would see the tokens after it.
    """

    class Config(Norm.Config):
        num_groups: int = REQUIRED
        eps: float = 1e-5  # added to the variance

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.input_dim % cfg.num_groups:
            raise ConfigError(
                f"num_groups (={cfg.num_groups}) must divide input_dim (={cfg.input_dim})"
            )

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        return {"scale": self._gain(), "bias": self._vector(zeros)}

    def forward(self, x: jax.Array) -> jax.Array:
        grouped = (self.config.num_groups, -1)
        scale, bias = (self.param(name).reshape(grouped) for name in ("scale", "bias"))
        parts = x.reshape(*x.shape[:-1], *grouped)
        y: jax.Array = _layer_norm(parts, scale, bias, self.config.eps)
        return y.reshape(x.shape)


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
