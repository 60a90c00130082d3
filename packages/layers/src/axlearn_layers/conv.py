"""Short convolutions along the sequence."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED
from axlearn_core.module import BaseInitializer, FanIn, Layer, ParameterSpec, no_context, zeros
from axlearn_core.parallel import constrain


class CausalConv(Layer):
    """y_t = b + sum_{i < width} w_i * x_{t - width + 1 + i}, of each channel by itself.

    Tokens of another document count as 0.
    """

    class Config(Layer.Config):
        # Set by the parent: the channels' dimensions and logical axes.
        dims: tuple[int, ...] = REQUIRED
        axes: tuple[str | None, ...] = REQUIRED
        width: int = 4
        bias: bool = True
        initializer: BaseInitializer.Config = FanIn.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        self._initializer = self.config.initializer.instantiate()

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        weight = ParameterSpec(
            (cfg.width, *cfg.dims), (None, *cfg.axes), self._initializer, cfg.dtype
        )
        if not cfg.bias:
            return {"weight": weight}
        bias = ParameterSpec(cfg.dims, cfg.axes, zeros, cfg.dtype, weight_decay_scale=0.0)
        return {"weight": weight, "bias": bias}

    @no_context
    def init_cache(self, batch_size: int, dtype: str) -> jax.Array:
        """Returns [batch, width - 1, *dims], the tokens before the first: zeros."""
        cfg = self.config
        before = jnp.zeros((batch_size, cfg.width - 1, *cfg.dims), dtype)
        return constrain(before, "batch", None, *cfg.axes)

    def forward(
        self, x: jax.Array, cache: jax.Array, document: jax.Array, counts: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Convolves further tokens.

        Args:
            x: [batch, seq, *dims].
            cache: the tokens before them, of document 0.
            document: [batch, seq] int, the same for all tokens of a document.
            counts: [batch, seq] bool, False for padding at the end.

        Returns:
            What has the shape of x, and the new cache.
        """
        seq, before = x.shape[1], self.config.width - 1
        tokens = jnp.concatenate([cache.astype(x.dtype), x], axis=1)
        documents = jnp.pad(document, [(0, 0), (before, 0)])
        weight = self.param("weight").astype(x.dtype)
        y = jnp.zeros_like(x)
        for i in range(self.config.width):
            same = documents[:, i : i + seq] == document
            y += weight[i] * tokens[:, i : i + seq] * _expand(same, x.ndim)
        if self.config.bias:
            y += self.param("bias").astype(x.dtype)
        last = counts.sum(axis=1)[:, None] + jnp.arange(before)  # the last that count
        kept = jnp.take_along_axis(tokens, _expand(last, x.ndim), axis=1)
        return y, kept.astype(cache.dtype)


def _expand(x: jax.Array, rank: int) -> jax.Array:
    return x.reshape(*x.shape, *[1] * (rank - x.ndim))
