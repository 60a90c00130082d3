"""Absolute positions, added to the token embeddings."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import BaseInitializer, Layer, Normal, ParameterSpec, no_context


class PositionEmbedding(Layer):
    """Gives the vector of each position, which the model adds to the token's."""

    class Config(Layer.Config):
        dim: int = REQUIRED  # set by the model

    @property
    def max_length(self) -> int | None:
        """The longest sequence that has positions, in tokens; None is any."""
        return None

    def forward(self, positions: jax.Array) -> jax.Array:
        """[batch, seq] int -> [batch, seq, dim]."""
        raise NotImplementedError(type(self))


class SinusoidalPositions(PositionEmbedding):
    """p_{2i} = sin(position / theta^(2i/d)), p_{2i+1} = cos of the same (arXiv:1706.03762)."""

    class Config(PositionEmbedding.Config):
        theta: float = 10000.0

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        if self.config.dim % 2:
            raise ConfigError(f"sines and cosines are pairs: dim (={self.config.dim}) must be even")

    def forward(self, positions: jax.Array) -> jax.Array:
        cfg = self.config
        frequencies = jnp.asarray(cfg.theta ** (-np.arange(0, cfg.dim, 2) / cfg.dim), jnp.float32)
        angles = positions[..., None] * frequencies
        pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        return pairs.reshape(*positions.shape, cfg.dim)


class LearnedPositions(PositionEmbedding):
    """A table with one trained vector per position, as in GPT-2."""

    class Config(PositionEmbedding.Config):
        max_length: int = REQUIRED  # of a sequence
        initializer: BaseInitializer.Config = Normal.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        self._initializer = self.config.initializer.instantiate()

    @property
    def max_length(self) -> int:
        return self.config.max_length

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        shape, axes = (cfg.max_length, cfg.dim), (None, "embed")
        weight = ParameterSpec(shape, axes, self._initializer, cfg.dtype, fan_in_axes=(1,))
        return {"weight": weight}

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Reading rows multiplies nothing."""
        return 0.0

    def forward(self, positions: jax.Array) -> jax.Array:
        length = positions.shape[-1]
        if length > self.config.max_length:
            raise ConfigError(
                f"{self.path}: a sequence of {length} tokens has more positions than max_length "
                f"(={self.config.max_length}); raise max_length or shorten the sequences"
            )
        return self.param("weight")[positions]
