import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_layers import DenseFeedForward, GatedFeedForward, ScaledDim


def test_gated_equals_swiglu_formula(make, rng):
    layer, state = make.build(GatedFeedForward.Config(input_dim=6, hidden_dim=10))
    x = rng.normal(size=(2, 3, 6))
    gate_up = np.asarray(state["gate_up"]["weight"], np.float64)
    gate, up = x @ gate_up[:, 0], x @ gate_up[:, 1]
    expected = gate / (1 + np.exp(-gate)) * up @ np.asarray(state["down"]["weight"], np.float64)
    np.testing.assert_allclose(make.call(layer, state, x.astype(np.float32)), expected, atol=1e-6)


def test_dense_equals_formula_with_biases(make, rng):
    layer, state = make.build(
        DenseFeedForward.Config(input_dim=6, hidden_dim=10, activation="relu")
    )
    x = rng.normal(size=(2, 3, 6))
    up, down = jax.tree.map(lambda a: np.asarray(a, np.float64), (state["up"], state["down"]))
    hidden = np.maximum(x @ up["weight"] + up["bias"], 0)
    expected = hidden @ down["weight"] + down["bias"]
    np.testing.assert_allclose(make.call(layer, state, x.astype(np.float32)), expected, atol=1e-6)


def test_the_gated_product_is_made_again_in_the_backward_pass(make):
    layer, state = make.build(GatedFeedForward.Config(input_dim=4, hidden_dim=64))
    x = jnp.ones((8, 4))
    _, pullback = jax.vjp(lambda x: make.call(layer, state, x), x)
    weights = sum(leaf.size for leaf in jax.tree.leaves(state))
    kept = sum(leaf.size for leaf in jax.tree.leaves(pullback))
    assert kept <= weights + 2 * 8 * 64  # gate and up, nothing else


def test_hidden_dim_can_be_a_function_of_input_dim():
    rule = ScaledDim.default_config().set(factor=8 / 3, multiple_of=16)
    layer = GatedFeedForward.Config(input_dim=20, hidden_dim=rule).instantiate()
    assert layer.parameter_specs()["down"]["weight"].shape == (64, 20)
    layer = GatedFeedForward.Config(input_dim=20, hidden_dim=lambda dim: 3 * dim).instantiate()
    assert layer.parameter_specs()["down"]["weight"].shape == (60, 20)


def test_unknown_activation_is_refused_when_built():
    with pytest.raises(BuildError, match="no activation 'gelutanh'"):
        DenseFeedForward.Config(input_dim=4, hidden_dim=4, activation="gelutanh").instantiate()
