"""Relative positions as something that attention adds to its scores."""

from __future__ import annotations

import math
from typing import Any

import jax

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.kernels import BucketedBias, LinearBias, ScoreBias
from axlearn_core.module import BaseInitializer, Layer, Normal, ParameterSpec, no_context


class AttentionBias(Layer):
    """Gives attention the bias of its scores."""

    class Config(Layer.Config):
        num_heads: int = REQUIRED  # set by the attention

    def forward(self) -> tuple[ScoreBias, jax.Array | None]:
        """Returns the symbol of the bias, and the parameters that it takes."""
        raise NotImplementedError(type(self))

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Multiplies no matrices."""
        return 0.0


class Alibi(AttentionBias):
    """-slope_h * |query - key| (ALiBi, arXiv:2108.12409), without parameters.

    For n heads, n a power of 2, slopes are 2^(-8/n), 2^(-16/n), ..., 2^-8. Otherwise they are those
    of the next lower power p, then every other one of 2p heads, as in the published code.
    """

    def forward(self) -> tuple[ScoreBias, jax.Array | None]:
        return LinearBias(alibi_slopes(self.config.num_heads)), None


class T5Bias(AttentionBias):
    """b_h[bucket(key - query)]: a learned scalar per head and bucket (T5, arXiv:1910.10683).

    See `BucketedBias` for the buckets. T5 has one table for all layers, here each layer has its
    own; and T5 does not scale the scores: set the attention's `scale` to 1.
    """

    class Config(AttentionBias.Config):
        num_buckets: int = 32
        max_distance: int = 128  # all distances from here on share a bucket
        both_directions: bool = False  # encoders tell keys ahead from keys behind
        initializer: BaseInitializer.Config = Normal.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        smallest = 4 if cfg.both_directions else 2
        if cfg.num_buckets < smallest or cfg.num_buckets % smallest:
            raise ConfigError(f"num_buckets (={cfg.num_buckets}) must be a multiple of {smallest}")
        if cfg.max_distance <= cfg.num_buckets // smallest:
            raise ConfigError(
                f"max_distance (={cfg.max_distance}) must be more than the "
                f"{cfg.num_buckets // smallest} distances that have their own bucket"
            )
        self._initializer = cfg.initializer.instantiate()

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        shape, axes = (cfg.num_heads, cfg.num_buckets), ("heads", None)
        return {"weight": ParameterSpec(shape, axes, self._initializer, cfg.dtype)}

    def forward(self) -> tuple[ScoreBias, jax.Array | None]:
        cfg = self.config
        bias = BucketedBias(cfg.num_buckets, cfg.max_distance, cfg.both_directions)
        return bias, self.param("weight")


def alibi_slopes(num_heads: int) -> tuple[float, ...]:
    """Returns the slope of each head, largest first."""
    power = 2 ** int(math.log2(num_heads))
    slopes = tuple(2 ** (-8 * i / power) for i in range(1, power + 1))
    if power == num_heads:
        return slopes
    return slopes + alibi_slopes(2 * power)[::2][: num_heads - power]
