"""A position encoding: it wraps what makes queries and keys, so attention need not know of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from axlearn_core.config import ConfigError
from axlearn_layers import QKV, QKVWrapper, RotaryFrequencies


class XPos(QKVWrapper):
    """Rotary positions whose scores fade with the distance (arXiv:2212.10554).

    The pair i of a query at n turns as by `Rotary`, and is multiplied by zeta_i^(n / scale_base),
    that of a key at m by zeta_i^(-m / scale_base), with

      zeta_i = (2 i / head_dim + gamma) / (1 + gamma),   i = 0, ..., head_dim / 2 - 1,

    so that a score depends on n - m only, and on fast pairs (small i) over short distances only.
    With the defaults, float32 and bfloat16 hold the factors up to position 36,000; sequences beyond
    take a larger `scale_base`.
    """

    class Config(QKVWrapper.Config):
        theta: float = 10000.0  # base of the wavelengths, as of `Rotary`
        frequencies: RotaryFrequencies.Config = RotaryFrequencies.default_config()
        gamma: float = 0.4  # > 0; the larger, the less the pairs differ
        scale_base: float = 512.0  # tokens, > 0; the larger, the slower scores fade

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.head_dim % 2:
            raise ConfigError(f"xPos turns pairs: head_dim (={cfg.head_dim}) must be even")
        for name in ("gamma", "scale_base"):
            if getattr(cfg, name) <= 0:
                raise ConfigError(f"{name} (={getattr(cfg, name)}) must be positive")
        self._frequencies: RotaryFrequencies = cfg.frequencies.instantiate()

    def forward(self, x: jax.Array, positions: jax.Array | None) -> QKV:
        cfg = self.config
        query, key, value = self.inner.forward(x, positions)
        if positions is None:
            positions = jnp.arange(x.shape[1])[None]
        position = positions[..., None, None].astype(jnp.float32)
        angles = position * self._frequencies(cfg.theta, cfg.head_dim, positions)
        growth = jnp.exp(position / cfg.scale_base * self._log_zeta())
        query = _turned(query, angles, self._frequencies.amplitude * growth)
        if key is not None:
            key = _turned(key, angles, self._frequencies.amplitude / growth)
        return QKV(query, key, value)

    def _log_zeta(self) -> jax.Array:
        cfg = self.config
        pairs = jnp.arange(cfg.head_dim // 2, dtype=jnp.float32)
        return jnp.log((2 * pairs / cfg.head_dim + cfg.gamma) / (1 + cfg.gamma))


def _turned(x: jax.Array, angles: jax.Array, factor: jax.Array) -> jax.Array:
    """Turns and stretches the pairs (x_i, x_{i + d/2}) of [batch, seq, heads, d]."""
    cos, sin = ((factor * f(angles)).astype(x.dtype) for f in (jnp.cos, jnp.sin))
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
