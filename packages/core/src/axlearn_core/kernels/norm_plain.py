"""Norms in plain JAX: as the formula says it, and as it is fast."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from axlearn_core.kernels.norm import NormInputs, NormSpec


class ReferenceNorm:
    """y = (x - m) / sqrt(mean((x - m)^2) + eps) * scale + bias; m is 0, or the mean of x."""

    priority = 0

    def supports(self, spec: NormSpec) -> str | None:
        return None

    def __call__(self, spec: NormSpec, inputs: NormInputs) -> jax.Array:
        x = inputs.x.astype(jnp.float32)
        if spec.kind == "layer":
            x = x - x.mean(axis=-1, keepdims=True)
        y = x / jnp.sqrt((x**2).mean(axis=-1, keepdims=True) + spec.eps) * inputs.scale
        if inputs.bias is not None:
            y = y + inputs.bias
        return y.astype(spec.dtype)


class RecomputedNorm:
    """Keeps nothing but the input for the backward pass.

    Making the rest again costs less than storing and loading it.
    """

    priority = 10

    def supports(self, spec: NormSpec) -> str | None:
        return None

    def __call__(self, spec: NormSpec, inputs: NormInputs) -> jax.Array:
        y: jax.Array = (_rms if spec.kind == "rms" else _layer)(*inputs, spec.eps)
        return y


@partial(jax.checkpoint, static_argnums=3)
def _rms(x: jax.Array, scale: jax.Array, bias: jax.Array | None, eps: float) -> jax.Array:
    x32 = x.astype(jnp.float32)
    mean_square = jnp.mean(x32 * x32, axis=-1, keepdims=True)
    return _scaled(x32 * jax.lax.rsqrt(mean_square + eps), scale, bias).astype(x.dtype)


@partial(jax.checkpoint, static_argnums=3)
def _layer(x: jax.Array, scale: jax.Array, bias: jax.Array | None, eps: float) -> jax.Array:
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return _scaled(centred * jax.lax.rsqrt(variance + eps), scale, bias).astype(x.dtype)


def _scaled(x: jax.Array, scale: jax.Array, bias: jax.Array | None) -> jax.Array:
    return x * scale if bias is None else x * scale + bias
