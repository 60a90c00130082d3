"""Ragged matmul of eight bits, against loops over groups in numpy's float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_core.kernels import QuantizedFormat, quantized_ragged_matmul, ragged_matmul

SIZES = np.array([5, 0, 9, 2])  # and 4 rows of no group
ROWS, IN, OUT = 20, 16, 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, IN)).astype(np.float32)
WEIGHTS = RNG.normal(size=(4, IN, OUT)).astype(np.float32)
OUTER = RNG.normal(size=(ROWS, OUT)).astype(np.float32)

FORMATS = {
    "float8": QuantizedFormat("float8_e4m3fn", "float8_e5m2"),
    "int8": QuantizedFormat("int8", "int8"),
    "float8 tensor": QuantizedFormat("float8_e4m3fn", "float8_e5m2", "tensor"),
}


def rounded(x: np.ndarray, format: str, axis: int | None) -> np.ndarray:
    """x as its numbers of eight bits and their scale give it back, by the definition."""
    most = float(np.iinfo(np.int8).max if format == "int8" else ml_dtypes.finfo(format).max)
    largest = np.abs(x).max(axis=axis, keepdims=True) if x.size else np.ones((1, 1))
    scale = largest.astype(np.float32) / np.float32(most)
    scaled = x.astype(np.float32) / scale
    numbers = np.round(scaled) if format == "int8" else scaled.astype(ml_dtypes.__dict__[format])
    return numbers.astype(np.float64) * scale.astype(np.float64)


def expected(format: QuantizedFormat) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, and the gradients of sum(y * OUTER) by rows and weights."""
    assert format.gradient is not None
    y, of_x, of_w = np.zeros((ROWS, OUT)), np.zeros((ROWS, IN)), np.zeros_like(WEIGHTS, np.float64)
    channel = format.scaling == "channel"
    whole_x = None if channel else rounded(X, format.forward, None)
    whole_g = None if channel else rounded(OUTER, format.gradient, None)
    start = 0
    for group, size in enumerate(SIZES):
        own = slice(start, start + size)
        start += size
        x, g, w = X[own], OUTER[own], WEIGHTS[group]
        q = rounded(x, format.forward, 1) if whole_x is None else whole_x[own]
        h = rounded(g, format.gradient, 1) if whole_g is None else whole_g[own]
        y[own] = q @ rounded(w, format.forward, 0 if channel else None)
        of_x[own] = h @ rounded(w.T, format.forward, 0 if channel else None)
        axis = 0 if channel else None
        of_w[group] = rounded(x, format.forward, axis).T @ rounded(g, format.gradient, axis)
    return y, of_x, of_w


@pytest.mark.parametrize("name", FORMATS)
def test_products_and_gradients_are_those_of_rounded_numbers(name: str) -> None:
    format = FORMATS[name]

    def loss(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = quantized_ragged_matmul(x, weights, jnp.asarray(SIZES), format)
        return jnp.sum(y * OUTER), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(X, WEIGHTS)
    # Sums of float32; a number that lies between two is rounded to the same in both.
    for got, want in zip((y, *gradients), expected(format), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_without_a_format_for_gradients_they_are_those_of_the_plain_product() -> None:
    format, sizes = QuantizedFormat("int8", None), jnp.asarray(SIZES)

    def loss(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.sum(quantized_ragged_matmul(x, weights, sizes, format) * OUTER)

    def plain(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.sum(ragged_matmul(x, weights, sizes) * OUTER)

    both = (jax.jit(jax.grad(function, (0, 1)))(X, WEIGHTS) for function in (loss, plain))
    jax.tree.map(np.testing.assert_array_equal, *both)


def test_a_dtype_without_room_for_the_sums_is_refused() -> None:
    with pytest.raises(UserError, match="float16; it must be one of bfloat16"):
        quantized_ragged_matmul(
            X.astype("float16"), WEIGHTS.astype("float16"), jnp.asarray(SIZES), FORMATS["int8"]
        )
