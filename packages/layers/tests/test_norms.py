import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_layers import LayerNorm, RMSNorm


def rms_norm(x, state, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * np.asarray(state["scale"], float)


def layer_norm(x, state, eps):
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return normal * np.asarray(state["scale"], float) + np.asarray(state["bias"], float)


NORMS = [(RMSNorm, rms_norm), (LayerNorm, layer_norm)]


@pytest.mark.parametrize(("kind", "formula"), NORMS)
def test_norm_equals_float64_formula(make, rng, kind, formula):
    layer, state = make.build(kind.Config(input_dim=8, eps=0.1))
    x = 3 * rng.normal(size=(2, 5, 8)) + 1
    y = make.call(layer, state, x.astype(np.float32))
    np.testing.assert_allclose(y, formula(x, state, 0.1), atol=2e-6)


@pytest.mark.parametrize(("kind", "formula"), NORMS)
def test_norm_keeps_only_its_input_for_the_backward_pass(make, kind, formula):
    layer, state = make.build(kind.Config(input_dim=8))
    x = jnp.ones((2, 5, 8))
    _, pullback = jax.vjp(lambda x, state: make.call(layer, state, x), x, state)
    kept = sum(leaf.size for leaf in jax.tree.leaves(pullback))
    assert kept <= x.size + 2 * 8


@pytest.mark.parametrize(("kind", "formula"), NORMS)
def test_norm_takes_statistics_in_float32(make, kind, formula):
    layer, state = make.build(kind.Config(input_dim=512))
    x = jax.random.normal(jax.random.key(0), (4, 512), jnp.bfloat16)
    y = make.call(layer, state, x)
    assert y.dtype == jnp.bfloat16
    # One rounding to bfloat16 (8 bits) at the end, and none before.
    expected = formula(np.asarray(x, float), state, layer.config.eps)
    np.testing.assert_allclose(np.asarray(y, float), expected, rtol=2**-8, atol=1e-6)
