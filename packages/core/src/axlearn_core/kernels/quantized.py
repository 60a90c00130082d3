"""The quantised matmul op: products of operands that are rounded to eight bits each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.errors import UserError
from axlearn_core.kernels.selection import select
from axlearn_core.parallel import current_platform

Scaling = Literal["channel", "tensor"]


@dataclass(frozen=True)
class QuantizedFormat:
    """In which numbers the three matrix products of a layer in training are computed.

    y = x W takes both operands in `forward`. The gradients are products of dL/dy in `gradient` with
    W, and with x, in `forward`; they are straight through: rounding counts as the identity
    (arXiv:1308.3432). With None they are products of the dtype of x.
    """

    forward: str  # a dtype, such as "float8_e4m3fn" or "int8"
    gradient: str | None
    scaling: Scaling = "channel"  # "channel": a scale for each row of x and column of W


@dataclass(frozen=True)
class QuantizedMatmulSpec:
    """Everything static about one product: the last dimensions of `left`, the first of `right`."""

    left_shape: tuple[int, ...]
    right_shape: tuple[int, ...]
    contracted: int  # how many dimensions are summed over
    left_format: str  # to what the operands are rounded, such as "float8_e5m2"
    right_format: str
    scaling: Scaling
    dtype: str  # of the operands as they come, and of the result
    platform: str  # "cpu", "gpu" or "tpu"

    def __str__(self) -> str:
        left, right = ("x".join(map(str, shape)) for shape in (self.left_shape, self.right_shape))
        formats = f"{self.left_format} by {self.right_format}, a scale per {self.scaling}"
        return f"quantized_matmul({left} by {right}, {formats}, {self.dtype}, {self.platform})"


class QuantizedMatmulInputs(NamedTuple):
    """The operands of one product, not rounded yet."""

    left: jax.Array  # [..., *contracted]
    right: jax.Array  # [*contracted, ...]


def quantized_matmul(
    x: jax.Array,
    weight: jax.Array,
    format: QuantizedFormat,
    *,
    contracted: int = 1,
    implementation: str | None = None,
) -> jax.Array:
    """Computes x W from operands rounded to eight bits, and its gradients likewise.

    An operand is divided by a scale so that its largest absolute value, along what the product sums
    over ("channel") or of all of it ("tensor"), is the largest of the format; then it is rounded to
    the nearest. Scales are of this very operand (dynamic), so nothing is kept between steps. Sums
    are of float32, or of int32. The gradient by W sums over tokens, so the scales of its operands
    depend on which tokens a (micro-)batch holds; those of y and of the gradient by x do not.

    Products are split over devices by the compiler.

    Args:
        x: [..., *in].
        weight: [*in, *out], of the dtype of x.
        format: to what to round.
        contracted: how many dimensions `in` has.
        implementation: A kernel's name to force it; None is the first that supports the case.

    Returns:
        [..., *out], of the dtype of x.

    Raises:
        UserError: if shapes do not fit, or no kernel (or not the forced one) supports the case.
    """
    if x.shape[x.ndim - contracted :] != weight.shape[:contracted] or x.dtype != weight.dtype:
        raise UserError(
            f"quantized_matmul takes [..., *in] and [*in, *out] of one dtype, with {contracted} "
            f"dimensions in, got {x.dtype}{x.shape} and {weight.dtype}{weight.shape}"
        )
    return _matmul(x, weight, format, contracted, implementation)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _matmul(
    x: jax.Array, weight: jax.Array, format: QuantizedFormat, contracted: int, kernel: str | None
) -> jax.Array:
    return _product(x, weight, contracted, (format.forward, format.forward), format.scaling, kernel)


def _forward(
    x: jax.Array, weight: jax.Array, format: QuantizedFormat, contracted: int, kernel: str | None
) -> tuple[jax.Array, QuantizedMatmulInputs]:
    y = _matmul(x, weight, format, contracted, kernel)
    return y, QuantizedMatmulInputs(x, weight)


def _backward(
    format: QuantizedFormat,
    contracted: int,
    kernel: str | None,
    inputs: QuantizedMatmulInputs,
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x, weight = inputs
    outputs, rows = weight.ndim - contracted, x.ndim - contracted
    transposed_weight, transposed_x = _swapped(weight, contracted), _swapped(x, rows)
    if format.gradient is None:
        of_x = jnp.tensordot(gradient, transposed_weight, axes=outputs)
        return of_x, jnp.tensordot(transposed_x, gradient, axes=rows)
    by_weight, by_x = (format.gradient, format.forward), (format.forward, format.gradient)
    return (
        _product(gradient, transposed_weight, outputs, by_weight, format.scaling, kernel),
        _product(transposed_x, gradient, rows, by_x, format.scaling, kernel),
    )


_matmul.defvjp(_forward, _backward)


def _swapped(x: jax.Array, first: int) -> jax.Array:
    """Moves the first dimensions behind the others."""
    return jnp.transpose(x, (*range(first, x.ndim), *range(first)))


def _product(
    left: jax.Array,
    right: jax.Array,
    contracted: int,
    formats: tuple[str, str],
    scaling: Scaling,
    implementation: str | None,
) -> jax.Array:
    spec = QuantizedMatmulSpec(
        left_shape=left.shape,
        right_shape=right.shape,
        contracted=contracted,
        left_format=formats[0],
        right_format=formats[1],
        scaling=scaling,
        dtype=left.dtype.name,
        platform=current_platform(),
    )
    kernel = select("quantized_matmul", spec, implementation)
    output: jax.Array = kernel(spec, QuantizedMatmulInputs(left, right))
    return output


def largest(format: str) -> float:
    """Returns the largest number of a format, by which operands are scaled."""
    dtype = jnp.dtype(format)
    if jnp.issubdtype(dtype, jnp.integer):
        return 2.0 ** (8 * dtype.itemsize - 1) - 1
    return float(jnp.finfo(dtype).max)  # type: ignore[no-untyped-call]
