"""A linear projection whose matrix product is one of 8-bit integers."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.module import BaseInitializer, FanIn, ParameterSpec, no_context, zeros
from axlearn_layers import Projection


class Int8Linear(Projection):
    """y = s_x s_w (int8(x / s_x) int8(W / s_w)) + b (arXiv:1712.05877).

    Scales are taken anew at every call: one for each vector of x, one for each output of W. The
    backward pass is that of x W + b, as if nothing were rounded (arXiv:1308.3432).
    """

    class Config(Projection.Config):
        bias: bool = False
        initializer: BaseInitializer.Config = FanIn.default_config()

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        inputs, outputs = tuple_of(cfg.input_dim), tuple_of(cfg.output_dim)
        axes = tuple_of(cfg.output_axes)
        first = cfg.initializer.instantiate()
        weight = ParameterSpec(
            (*inputs, *outputs),
            (*tuple_of(cfg.input_axes), *axes),
            first,
            cfg.dtype,
            tuple(range(len(inputs))),
        )
        bias = ParameterSpec(outputs, axes, zeros, cfg.dtype, weight_decay_scale=0.0)
        return {"weight": weight} | ({"bias": bias} if cfg.bias else {})

    def forward(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        inputs, outputs = tuple_of(cfg.input_dim), tuple_of(cfg.output_dim)
        rows = x.reshape(*x.shape[: x.ndim - len(inputs)], math.prod(inputs))
        weight = self.param("weight").astype(x.dtype).reshape(rows.shape[-1], -1)
        y = int8_matmul(rows, weight).reshape(*rows.shape[:-1], *outputs)
        return y + self.param("bias").astype(x.dtype) if cfg.bias else y

    def weight(self) -> jax.Array:
        return self.param("weight")

    def bias(self) -> jax.Array | None:
        return self.param("bias") if self.config.bias else None


@jax.custom_vjp
def int8_matmul(x: jax.Array, weight: jax.Array) -> jax.Array:
    """[..., in] x [in, out] -> [..., out]."""
    rows, row_scales = quantize(x, axis=-1)
    columns, column_scales = quantize(weight, axis=0)
    product = jnp.matmul(rows, columns, preferred_element_type=jnp.int32)
    return (product * row_scales * column_scales).astype(x.dtype)


def quantize(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Returns int8 numbers and what to multiply them by."""
    scale = jnp.max(jnp.abs(x.astype(jnp.float32)), axis=axis, keepdims=True) / 127
    scale = jnp.where(scale == 0, 1.0, scale)
    return jnp.round(x / scale).astype(jnp.int8), scale


def _forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return int8_matmul(x, weight), (x, weight)


def _backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    flat = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return gradient @ weight.T, flat[0].T @ flat[1]


int8_matmul.defvjp(_forward, _backward)


def tuple_of(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
