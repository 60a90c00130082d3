"""How fast the pairs of a rotary embedding turn, and how that is stretched to longer sequences.

Notation: f_i = theta^(-2i/d) for d turning dimensions, L the `original_length` of training, s the
`factor` by which sequences may be longer.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.config import REQUIRED, ConfigError, Configurable

Floats = np.ndarray[Any, np.dtype[np.float64]]


class RotaryFrequencies(Configurable):
    """f_i, as they are (RoFormer, arXiv:2104.09864)."""

    def __call__(self, theta: float, dim: int, positions: jax.Array) -> jax.Array:
        """Returns radians per token, float32, that broadcast to [batch, seq, heads, dim / 2].

        Args:
            theta: Base of the wavelengths.
            dim: How many dimensions of a head turn.
            positions: [batch, seq] int.
        """
        return jnp.asarray(self._scaled(plain_frequencies(theta, dim), theta), jnp.float32)

    @property
    def amplitude(self) -> float:
        """What queries and keys are multiplied by besides turning."""
        return 1.0

    def _scaled(self, frequencies: Floats, theta: float) -> Floats:
        return frequencies


class LinearFrequencies(RotaryFrequencies):
    """f_i / s: position interpolation (arXiv:2306.15595)."""

    class Config(RotaryFrequencies.Config):
        factor: float = REQUIRED

    def _scaled(self, frequencies: Floats, theta: float) -> Floats:
        return frequencies / self.config.factor


class DynamicNTKFrequencies(RotaryFrequencies):
    """f_i * g^(-2i/(d-2)), g = max(1, s n / L - (s - 1)), for sequences of n tokens.

    "NTK-aware" scaling that grows with the sequence (arXiv:2309.00071, section 3.3). n is a
    sequence's last position plus one; transformers takes the longest of the batch. Keys in a cache
    keep the frequencies they were turned with, as there.
    """

    class Config(RotaryFrequencies.Config):
        factor: float = REQUIRED
        original_length: int = REQUIRED

    def __call__(self, theta: float, dim: int, positions: jax.Array) -> jax.Array:
        cfg = self.config
        length = positions.max(axis=-1)[:, None, None, None] + 1.0
        growth = jnp.maximum(1, cfg.factor * length / cfg.original_length - (cfg.factor - 1))
        exponents = -np.arange(0, dim, 2) / max(dim - 2, 1)
        frequencies = jnp.asarray(plain_frequencies(theta, dim), jnp.float32)
        return frequencies * growth ** jnp.asarray(exponents, jnp.float32)


class Llama3Frequencies(RotaryFrequencies):
    """((1 - r) / s + r) f_i, r = clip((L f_i / 2 pi - low) / (high - low), 0, 1).

    As in Llama 3.1 (arXiv:2407.21783): what turns more than `high` times within L stays, what turns
    less than `low` times is interpolated.
    """

    class Config(RotaryFrequencies.Config):
        factor: float = 8.0
        low_turns: float = 1.0  # low_freq_factor of the published configs
        high_turns: float = 4.0  # high_freq_factor
        original_length: int = 8192

    def __init__(self, config: Config):
        super().__init__(config)
        low, high = config.low_turns, config.high_turns
        if low >= high:
            raise ConfigError(f"low_turns (={low}) must be less than high_turns (={high})")

    def _scaled(self, frequencies: Floats, theta: float) -> Floats:
        cfg = self.config
        turns = cfg.original_length * frequencies / (2 * math.pi)
        keep = np.clip((turns - cfg.low_turns) / (cfg.high_turns - cfg.low_turns), 0, 1)
        return _mixed(frequencies, cfg.factor, keep)


class YarnFrequencies(RotaryFrequencies):
    """((1 - r) / s + r) f_i, where r falls from 1 to 0 over i (YaRN, arXiv:2309.00071).

    r falls linearly between the pairs that turn `fast_turns` and `slow_turns` times within L (beta
    and alpha of the paper, which interpolates over turns; its code, and everybody since, over i).
    Queries and keys are multiplied by 0.1 ln(s) + 1.
    """

    class Config(RotaryFrequencies.Config):
        factor: float = REQUIRED
        original_length: int = REQUIRED
        fast_turns: float = 32.0
        slow_turns: float = 1.0
        amplitude: float | None = None  # None is 0.1 ln(factor) + 1
        round_pairs: bool = True  # the two pairs to whole numbers; gpt-oss does not

    @property
    def amplitude(self) -> float:
        cfg = self.config
        if cfg.amplitude is not None:
            return cfg.amplitude
        return 0.1 * math.log(cfg.factor) + 1 if cfg.factor > 1 else 1.0

    def _scaled(self, frequencies: Floats, theta: float) -> Floats:
        cfg = self.config
        pairs = len(frequencies)

        def pair(turns: float) -> float:  # i at which f_i turns so often within L
            return pairs * math.log(cfg.original_length / (turns * 2 * math.pi)) / math.log(theta)

        first, last = pair(cfg.fast_turns), pair(cfg.slow_turns)
        if cfg.round_pairs:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * pairs - 1)
        width = max(last - first, 0.001)  # a step where both are one pair
        keep = 1 - np.clip((np.arange(pairs) - first) / width, 0, 1)
        return _mixed(frequencies, cfg.factor, keep)


def plain_frequencies(theta: float, dim: int) -> Floats:
    """Returns f_i, [dim / 2] float64."""
    frequencies: Floats = theta ** (-np.arange(0, dim, 2) / dim)
    return frequencies


def _mixed(frequencies: Floats, factor: float, keep: Floats) -> Floats:
    return ((1 - keep) / factor + keep) * frequencies
