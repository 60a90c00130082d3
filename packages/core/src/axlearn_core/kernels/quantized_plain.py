"""Quantised matmul in plain JAX: the formula in float32, and products of the rounded numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.kernels.quantized import QuantizedMatmulInputs, QuantizedMatmulSpec, largest


class ReferenceQuantizedMatmul:
    """sum_k (s_i q_ik) (t_j r_kj), with q = round(left / s) and r = round(right / t).

    Rounded numbers are multiplied as float32, which on a CPU is the fastest there is.
    """

    priority = 0

    def supports(self, spec: QuantizedMatmulSpec) -> str | None:
        return None

    def __call__(self, spec: QuantizedMatmulSpec, inputs: QuantizedMatmulInputs) -> jax.Array:
        (left, s), (right, t) = _quantized(spec, inputs)
        left, right = left.astype(jnp.float32) * s, right.astype(jnp.float32) * t
        product = jnp.tensordot(left, right, axes=spec.contracted)
        return product.astype(spec.dtype)


class NativeQuantizedMatmul:
    """s_i t_j sum_k q_ik r_kj: XLA multiplies the numbers of eight bits, and then come the scales.

    Chips without such units (FP8 before Hopper and TPU v7, for one) multiply them as wider ones.
    """

    priority = 10

    def supports(self, spec: QuantizedMatmulSpec) -> str | None:
        if spec.platform == "cpu":
            return "a CPU has no units for products of eight bits"
        kinds = {jnp.issubdtype(f, jnp.integer) for f in (spec.left_format, spec.right_format)}
        if len(kinds) > 1:
            return "no unit multiplies integers by floats"
        return None

    def __call__(self, spec: QuantizedMatmulSpec, inputs: QuantizedMatmulInputs) -> jax.Array:
        (left, s), (right, t) = _quantized(spec, inputs)
        integers = jnp.issubdtype(left.dtype, jnp.integer)
        sums = jax.lax.dot_general(
            left,
            right,
            ((_contracted_left(spec), tuple(range(spec.contracted))), ((), ())),
            preferred_element_type=jnp.int32 if integers else jnp.float32,
        ).astype(jnp.float32)
        rows, columns = left.ndim - spec.contracted, right.ndim - spec.contracted
        s = s.reshape(s.shape[:rows] + (1,) * columns)
        t = t.reshape((1,) * rows + t.shape[spec.contracted :])
        return (sums * s * t).astype(spec.dtype)


def _contracted_left(spec: QuantizedMatmulSpec) -> tuple[int, ...]:
    rank = len(spec.left_shape)
    return tuple(range(rank - spec.contracted, rank))


def _quantized(
    spec: QuantizedMatmulSpec, inputs: QuantizedMatmulInputs
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    per_tensor = spec.scaling == "tensor"
    left_axes = None if per_tensor else _contracted_left(spec)
    right_axes = None if per_tensor else tuple(range(spec.contracted))
    return (
        rounded(inputs.left, spec.left_format, left_axes),
        rounded(inputs.right, spec.right_format, right_axes),
    )


def rounded(
    x: jax.Array, format: str, axes: tuple[int, ...] | None, *, most: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Returns numbers of a format and their float32 scale, which has x's rank; 0 stays 0.

    Without a gradient: that of the op is made of two more products.

    Args:
        x: what to round.
        format: to what.
        axes: over which the largest value is taken; None is all.
        most: the largest value instead, which broadcasts against x.
    """
    x = jax.lax.stop_gradient(x).astype(jnp.float32)
    if most is None:
        most = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    scale = most.astype(jnp.float32) / largest(format)
    scaled = x / jnp.where(scale > 0, scale, 1.0)
    if jnp.issubdtype(format, jnp.integer):
        scaled = jnp.round(scaled)
    return jnp.clip(scaled, -largest(format), largest(format)).astype(format), scale
