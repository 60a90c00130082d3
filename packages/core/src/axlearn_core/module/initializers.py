"""How parameters start."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp

from axlearn_core.config import Configurable
from axlearn_core.module.parameters import ParameterSpec


class BaseInitializer(Configurable):
    """An initializer with a config of its own; any callable of the same form will do as well."""

    class Config(Configurable.Config):
        """An initializer's fields."""

    def __call__(self, key: jax.Array, spec: ParameterSpec) -> jax.Array:
        raise NotImplementedError(type(self))


class Constant(BaseInitializer):
    """Every element is `value`."""

    class Config(BaseInitializer.Config):
        value: float = 0.0

    def __call__(self, key: jax.Array, spec: ParameterSpec) -> jax.Array:
        return jnp.full(spec.shape, self.config.value, spec.dtype)


class Normal(BaseInitializer):
    """Independent normal variables of mean 0."""

    class Config(BaseInitializer.Config):
        stddev: float = 0.02

    def __call__(self, key: jax.Array, spec: ParameterSpec) -> jax.Array:
        sample = jax.random.normal(key, spec.shape, jnp.float32)
        return (self.config.stddev * sample).astype(spec.dtype)


class FanIn(BaseInitializer):
    """Mean 0 and variance `scale / fan_in`, which keeps the size of activations (LeCun).

    fan_in is the product of the dimensions that a use of the parameter sums over.
    """

    class Config(BaseInitializer.Config):
        scale: float = 1.0
        distribution: Literal["normal", "truncated_normal", "uniform"] = "normal"

    def __call__(self, key: jax.Array, spec: ParameterSpec) -> jax.Array:
        fan_in = math.prod(spec.shape[axis] for axis in spec.fan_in_axes)
        stddev = math.sqrt(self.config.scale / max(fan_in, 1))
        match self.config.distribution:
            case "normal":
                sample = jax.random.normal(key, spec.shape, jnp.float32)
            case "truncated_normal":
                # Truncation at two standard deviations shrinks the variance; this undoes it.
                sample = (
                    jax.random.truncated_normal(key, -2, 2, spec.shape, jnp.float32) / 0.87962566
                )
            case "uniform":
                sample = jax.random.uniform(key, spec.shape, jnp.float32, -1, 1) * math.sqrt(3)
        return (stddev * sample).astype(spec.dtype)


def ones(key: jax.Array, spec: ParameterSpec) -> jax.Array:
    """Every element is 1."""
    return jnp.ones(spec.shape, spec.dtype)


def zeros(key: jax.Array, spec: ParameterSpec) -> jax.Array:
    """Every element is 0."""
    return jnp.zeros(spec.shape, spec.dtype)
