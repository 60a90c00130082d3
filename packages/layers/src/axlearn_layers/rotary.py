"""Rotary position embedding."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_layers.qkv import QKV, QKVWrapper
from axlearn_layers.rotary_frequencies import RotaryFrequencies


class Rotary(QKVWrapper):
    """Rotates queries and keys by angles that grow with the position (RoFormer, arXiv:2104.09864).

    The pair (x_i, x_{i + d/2}) turns by position * theta^(-2i/d), d being head_dim, so that scores
    depend on distances only. Pairs are split halves, as in Llama's published weights; the paper
    pairs neighbours, which is the same up to a permutation of the weights. With a `fraction` only
    the first d = fraction * head_dim dimensions turn (GPT-NeoX, arXiv:2204.06745).
    """

    class Config(QKVWrapper.Config):
        theta: float = 10000.0  # base of the wavelengths, which are 2 pi theta^(2i/d) tokens
        fraction: float = 1.0  # of head_dim, in (0, 1]
        frequencies: RotaryFrequencies.Config = RotaryFrequencies.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self._dim = int(cfg.head_dim * cfg.fraction)
        if self._dim % 2 or not 0 < self._dim <= cfg.head_dim:
            product = "" if cfg.fraction == 1 else f" times fraction (={cfg.fraction})"
            raise ConfigError(
                f"rotary embedding turns pairs: head_dim (={cfg.head_dim}){product} must be even"
                f"{product and ', more than 0 and at most head_dim'}"
            )
        self._frequencies: RotaryFrequencies = cfg.frequencies.instantiate()

    def forward(self, x: jax.Array, positions: jax.Array | None) -> QKV:
        query, key, value = self.inner.forward(x, positions)
        if positions is None:
            positions = jnp.arange(x.shape[1])[None]
        cos, sin = cosines(self._frequencies, self.config.theta, self._dim, positions, x.dtype)
        return QKV(rotate(query, cos, sin), None if key is None else rotate(key, cos, sin), value)


def cosines(
    frequencies: RotaryFrequencies, theta: float, dim: int, positions: jax.Array, dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Returns cosines and sines, [batch, seq, 1, dim / 2], for positions [batch, seq]."""
    angles = positions[..., None, None] * frequencies(theta, dim, positions)
    amplitude = frequencies.amplitude
    return (amplitude * jnp.cos(angles)).astype(dtype), (amplitude * jnp.sin(angles)).astype(dtype)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Turns the pairs (x_i, x_{i + d/2}) of the first d dimensions of x, [batch, seq, heads, dim].

    Cosines and sines are [batch, seq, 1, d / 2].
    """
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned + [rest] * (rest.shape[-1] > 0), axis=-1)
