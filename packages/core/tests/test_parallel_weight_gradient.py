"""Gradients of weights: in which dtype they leave their products."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.parallel import exchanging, weight_product, weight_rows

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 64, 4, 8)), jnp.bfloat16)
WEIGHT = jnp.asarray(RNG.normal(size=(4, 8, 16)), jnp.bfloat16)
OUTER = jnp.asarray(RNG.normal(size=(2, 64, 16)), jnp.bfloat16)


def gradients(dtype: str | None) -> tuple[jax.Array, jax.Array]:
    def loss(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(weight_product(x, weight, 2).astype("float32") * OUTER.astype("float32"))

    with exchanging(dtype):
        return jax.grad(loss, (0, 1))(X, WEIGHT)


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float32"])
def test_both_gradients_are_those_of_float64(dtype: str | None) -> None:
    x, weight, outer = (np.asarray(a, np.float64) for a in (X, WEIGHT, OUTER))
    of_x, of_weight = gradients(dtype)
    # One rounding of the result to bfloat16, of 8 bits.
    expected = np.einsum("bso,hdo->bshd", outer, weight)
    np.testing.assert_allclose(np.asarray(of_x, np.float64), expected, rtol=2**-8, atol=1e-2)
    expected = np.einsum("bshd,bso->hdo", x, outer)
    np.testing.assert_allclose(np.asarray(of_weight, np.float64), expected, rtol=2**-8, atol=1e-2)


def lowered(function: Callable[[jax.Array], jax.Array], at: jax.Array, dtype: str) -> str:
    with exchanging(dtype):
        return (
            jax.jit(jax.grad(lambda w: jnp.sum(function(w).astype("float32")))).lower(at).as_text()
        )


@pytest.mark.parametrize(("dtype", "name"), [("float32", "f32"), ("bfloat16", "bf16")])
def test_a_weights_gradient_leaves_its_product_so(dtype: str, name: str) -> None:
    program = lowered(lambda w: weight_product(X.astype(w.dtype), w, 2) ** 2, WEIGHT, dtype)
    assert f"-> tensor<4x8x16x{name}>" in program


def test_rows_of_a_table_add_up_in_float32() -> None:
    table = jnp.zeros((2, 1), jnp.bfloat16)
    numbers = jnp.zeros((512,), int)

    def loss(table: jax.Array) -> jax.Array:
        return jnp.sum(weight_rows(table, numbers).astype("float32"))

    assert jax.grad(loss)(table)[0, 0] == 256  # beyond it, bfloat16 has no odd numbers
    with exchanging("float32"):
        assert jax.grad(loss)(table)[0, 0] == 512
