"""Quantised matmul: against float64 loops over the formula, and against qwix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_core.kernels import QuantizedFormat, choose, quantized_matmul
from axlearn_core.kernels.quantized import QuantizedMatmulInputs, QuantizedMatmulSpec
from axlearn_core.kernels.quantized_plain import NativeQuantizedMatmul, ReferenceQuantizedMatmul

INT8 = QuantizedFormat("int8", "int8")
FLOAT8 = QuantizedFormat("float8_e4m3fn", "float8_e5m2")
LARGEST = {"int8": 127.0, "float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}


def rounded(x: np.ndarray, dtype: str, axis: int | None) -> np.ndarray:
    """What is left of x in float64."""
    scale = np.abs(x).max(axis=axis, keepdims=True) / LARGEST[dtype]
    scaled = x / np.where(scale == 0, 1, scale)
    numbers = np.rint(scaled) if dtype == "int8" else scaled.astype(getattr(ml_dtypes, dtype))
    return numbers.astype(np.float64) * scale


def product(left: np.ndarray, right: np.ndarray, dtypes: tuple[str, str], per: str) -> np.ndarray:
    axes = (1, 0) if per == "channel" else (None, None)
    return rounded(left, dtypes[0], axes[0]) @ rounded(right, dtypes[1], axes[1])


@pytest.fixture
def operands() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    x, weight, gradient = (
        rng.normal(size=(24, 16)),
        rng.normal(size=(16, 8)),
        rng.normal(size=(24, 8)),
    )
    x[3] *= 100  # an outlier token
    x[5] = 0
    return tuple(a.astype(np.float32) for a in (x, weight, gradient))


@pytest.mark.parametrize("scaling", ["channel", "tensor"])
@pytest.mark.parametrize("format", [INT8, FLOAT8], ids=["int8", "float8"])
def test_products_and_gradients_equal_the_formula(operands, format, scaling) -> None:
    x, weight, gradient = operands
    format = QuantizedFormat(format.forward, format.gradient, scaling)
    forward, backward = format.forward, format.gradient
    y, pull = jax.vjp(lambda x, w: quantized_matmul(x, w, format), x, weight)
    of_x, of_weight = pull(gradient)
    x, weight, gradient = (a.astype(np.float64) for a in operands)
    # A quotient that float32 and float64 round to either side of a tie differs by one unit; none of
    # these does.
    tight = {"rtol": 1e-5, "atol": 1e-4}
    np.testing.assert_allclose(y, product(x, weight, (forward, forward), scaling), **tight)
    np.testing.assert_allclose(
        of_x, product(gradient, weight.T, (backward, forward), scaling), **tight
    )
    np.testing.assert_allclose(
        of_weight, product(x.T, gradient, (forward, backward), scaling), **tight
    )


def test_several_dimensions_are_contracted_as_one(operands) -> None:
    x, weight, gradient = operands
    y, pull = jax.vjp(lambda x, w: quantized_matmul(x, w, INT8), x, weight)

    def split(x: jax.Array, weight: jax.Array) -> jax.Array:
        product = quantized_matmul(
            x.reshape(4, 6, 2, 8), weight.reshape(2, 8, 4, 2), INT8, contracted=2
        )
        return product.reshape(24, 8)

    y_split, pull_split = jax.vjp(split, x, weight)
    for got, want in zip((y_split, *pull_split(gradient)), (y, *pull(gradient)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_gradients_that_are_not_rounded_are_those_of_a_plain_product(operands) -> None:
    x, weight, gradient = operands
    format = QuantizedFormat("int8", None)
    _, pull = jax.vjp(lambda x, w: quantized_matmul(x, w, format), x, weight)
    of_x, of_weight = pull(gradient)
    np.testing.assert_allclose(of_x, gradient @ weight.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_weight, x.T @ gradient, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("scaling", ["channel", "tensor"])
@pytest.mark.parametrize(
    "formats",
    [("int8", "int8"), ("float8_e4m3fn", "float8_e4m3fn"), ("float8_e5m2", "float8_e4m3fn")],
    ids=str,
)
def test_products_of_the_numbers_themselves_equal_the_reference(operands, formats, scaling) -> None:
    x, weight, _ = operands
    spec = QuantizedMatmulSpec(x.shape, weight.shape, 1, *formats, scaling, "float32", "gpu")
    inputs = QuantizedMatmulInputs(jnp.asarray(x), jnp.asarray(weight))
    native = jax.jit(lambda inputs: NativeQuantizedMatmul()(spec, inputs))(inputs)
    reference = jax.jit(lambda inputs: ReferenceQuantizedMatmul()(spec, inputs))(inputs)
    np.testing.assert_allclose(native, reference, rtol=1e-5, atol=1e-4)


def test_the_numbers_are_those_of_qwix(operands) -> None:
    qwix = pytest.importorskip("qwix")  # whose INT8 goes to 127.5, so that it clips the largest
    x, weight, _ = operands
    numbers = [
        qwix.quantize(x, jnp.float8_e4m3fn, channelwise_axes=[0]),
        qwix.quantize(weight, jnp.float8_e4m3fn, channelwise_axes=[1]),
    ]
    theirs = qwix.dot_general(*numbers, (((1,), (0,)), ((), ())))
    np.testing.assert_allclose(quantized_matmul(x, weight, FLOAT8), theirs, rtol=1e-5, atol=1e-4)


def test_a_cpu_multiplies_rounded_numbers_as_float32_and_a_gpu_the_numbers() -> None:
    sizes = ((8, 4), (4, 8), 1, "int8", "int8", "channel", "bfloat16")
    chosen = [
        choose("quantized_matmul", QuantizedMatmulSpec(*sizes, p)).name for p in ("cpu", "gpu")
    ]
    assert chosen == [
        "axlearn-core/quantized_matmul.reference",
        "axlearn-core/quantized_matmul.native",
    ]
    spec = QuantizedMatmulSpec(*sizes, "cpu")
    assert (
        str(spec)
        == "quantized_matmul(8x4 by 4x8, int8 by int8, a scale per channel, bfloat16, cpu)"
    )


def test_shapes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(UserError, match=r"\[\.\.\., \*in\] and \[\*in, \*out\] of one dtype"):
        quantized_matmul(jnp.ones((2, 3)), jnp.ones((4, 2)), INT8)
