"""Rotary position embedding."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.config import ConfigError
from axlearn_layers.qkv import QKV, QKVWrapper


class Rotary(QKVWrapper):
    """Rotates queries and keys by angles that grow with the position (RoFormer, arXiv:2104.09864).

    The pair (x_i, x_{i + d/2}) turns by position * theta^(-2i/d), d being head_dim, so that scores
    depend on distances only. Pairs are split halves, as in Llama's published weights; the paper
    pairs neighbours, which is the same up to a permutation of the weights.
    """

    class Config(QKVWrapper.Config):
        theta: float = 10000.0  # base of the wavelengths, which are 2 pi theta^(2i/d) tokens

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.head_dim % 2:
            raise ConfigError(
                f"rotary embedding turns pairs: head_dim (={cfg.head_dim}) must be even"
            )

    def forward(self, x: jax.Array, positions: jax.Array | None) -> QKV:
        qkv = self.inner.forward(x, positions)
        if positions is None:
            positions = jnp.arange(x.shape[1])[None]
        cos, sin = rotation(positions, self.config.head_dim, self.config.theta)
        cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
        return QKV(rotate(qkv.query, cos, sin), rotate(qkv.key, cos, sin), qkv.value)


def rotation(positions: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Returns cosines and sines, each [..., 1, head_dim / 2] float32, for positions [...]."""
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = positions[..., None, None] * jnp.asarray(frequencies, jnp.float32)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Turns the pairs (x_i, x_{i + d/2}) of x, [batch, seq, heads, d]."""
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
