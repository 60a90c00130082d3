"""Randomness that regularises: in training only, none at evaluation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_core.module import Module


class Dropout(Module):
    """y = x * m / (1 - rate), where m is 0 with probability `rate`, else 1 (arXiv:1207.0580).

    At evaluation, and with rate 0, y = x, and no random key is needed.
    """

    class Config(Module.Config):
        rate: float = 0.0  # in [0, 1)

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        check_rate(self.config.rate)

    def forward(self, x: jax.Array) -> jax.Array:
        """[...] -> [...], the same dtype."""
        rate = self.config.rate
        if not (rate and self.is_training):
            return x
        kept = jax.random.bernoulli(self.prng_key(), 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


def check_rate(rate: float) -> None:
    """Raises a ConfigError if a rate of dropping would keep nothing, or is no probability."""
    if not 0 <= rate < 1:
        raise ConfigError(f"rate (={rate}) must be at least 0 and below 1")
