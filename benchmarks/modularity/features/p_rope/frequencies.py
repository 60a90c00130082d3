"""Rotary positions of which the slow pairs do not turn."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigBase, ConfigError
from axlearn_layers import RotaryFrequencies


class PRoPE(RotaryFrequencies):
    """theta^(-2i/d) for the first `share` of the pairs, 0 for the others (arXiv:2410.06205).

    Pairs that do not turn carry what has no place, such as the meaning of a token.
    """

    class Config(RotaryFrequencies.Config):
        share: float = 0.5  # of the pairs that turn, in (0, 1]; p in the paper

    def __init__(self, config: ConfigBase) -> None:
        super().__init__(config)
        if not 0 < self.config.share <= 1:
            raise ConfigError(f"share (={self.config.share}) must be more than 0 and at most 1")

    def __call__(self, theta: float, dim: int, positions: jax.Array) -> jax.Array:
        pairs = jnp.arange(dim // 2, dtype=jnp.float32)
        turning = pairs < self.config.share * len(pairs)
        return jnp.where(turning, theta ** (-2 * pairs / dim), 0.0)
