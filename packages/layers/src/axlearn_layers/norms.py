"""Normalisation over the last dimension.

Statistics are float32 whatever the input is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.kernels import norm
from axlearn_core.module import Initializer, Layer, ParameterSpec, no_context, ones, zeros


class Norm(Layer):
    """Maps [..., input_dim] to the same shape and dtype."""

    class Config(Layer.Config):
        input_dim: int = REQUIRED
        eps: float = 1e-6  # added to the variance
        axis: str | None = "embed"  # logical axis of the parameters; parents set it
        kernel: str | None = None  # forces an implementation; None takes the best that is there

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
        cfg = self.config
        scale = self.param("scale")
        if cfg.zero_centred:
            scale = 1 + scale.astype(jnp.float32)
        return norm(x, scale, kind="rms", eps=cfg.eps, implementation=cfg.kernel)


class LayerNorm(Norm):
    """y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias (arXiv:1607.06450)."""

    class Config(Norm.Config):
        eps: float = 1e-5  # added to the variance

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        return {"scale": self._gain(), "bias": self._vector(zeros)}

    def forward(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        scale, bias = self.param("scale"), self.param("bias")
        return norm(x, scale, bias, kind="layer", eps=cfg.eps, implementation=cfg.kernel)


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
        cfg = self.config
        grouped = (cfg.num_groups, -1)
        scale, bias = (self.param(name).reshape(grouped) for name in ("scale", "bias"))
        parts = x.reshape(*x.shape[:-1], *grouped)
        y = norm(parts, scale, bias, kind="layer", eps=cfg.eps, implementation=cfg.kernel)
        return y.reshape(x.shape)
