from math import erf, exp, pi, sqrt, tanh

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_layers import ACTIVATIONS, Embedding, LearnedPositions, Linear, activation


def test_linear_multiplies_by_weight_and_adds_bias(make, rng):
    layer, state = make.build(Linear.Config(input_dim=5, output_dim=7, bias=True))
    x = rng.normal(size=(2, 3, 5))
    expected = x @ np.asarray(state["weight"], np.float64) + np.asarray(state["bias"], np.float64)
    np.testing.assert_allclose(make.call(layer, state, x.astype(np.float32)), expected, atol=1e-6)


def test_linear_contracts_several_dimensions(make, rng):
    layer, state = make.build(Linear.Config(input_dim=(3, 4), output_dim=5, input_axes=("a", "b")))
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    expected = x.reshape(2, 12) @ np.asarray(state["weight"]).reshape(12, 5)
    np.testing.assert_allclose(make.call(layer, state, x), expected, atol=1e-6)


def test_linear_starts_with_variance_one_over_fan_in(make):
    layer = Linear.Config(input_dim=(8, 32), output_dim=64, input_axes=("a", "b")).instantiate()
    weight = layer.initialize(jax.random.key(0))["weight"]
    assert float(weight.std()) == pytest.approx(256**-0.5, rel=0.02)


def test_linear_computes_in_the_dtype_of_its_input(make):
    layer, state = make.build(Linear.Config(input_dim=5, output_dim=7, bias=True))
    assert make.call(layer, state, jnp.ones((2, 5), jnp.bfloat16)).dtype == jnp.bfloat16


def test_biases_and_gains_are_not_decayed(make):
    specs = Linear.Config(input_dim=5, output_dim=7, bias=True).instantiate().parameter_specs()
    assert (specs["weight"].weight_decay_scale, specs["bias"].weight_decay_scale) == (1.0, 0.0)


def test_embedding_reads_rows_and_scales_them(make):
    layer, state = make.build(Embedding.Config(vocab_size=9, dim=4, scale=2.0))
    vectors = make.call(layer, state, np.array([[3, 1]]))
    np.testing.assert_array_equal(vectors, 2 * np.asarray(state["weight"])[[[3, 1]]])


def test_embedding_attends_to_every_token(make, rng):
    layer, state = make.build(Embedding.Config(vocab_size=9, dim=4))
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    logits = make.call(layer, state, x, method="attend")
    np.testing.assert_allclose(logits, x @ np.asarray(state["weight"]).T, atol=1e-6)


def test_learned_positions_read_rows(make):
    layer, state = make.build(LearnedPositions.Config(max_length=6, dim=4))
    vectors = make.call(layer, state, np.array([[0, 5, 2]]))
    np.testing.assert_array_equal(vectors, np.asarray(state["weight"])[[[0, 5, 2]]])


def test_sequences_longer_than_the_position_table_are_refused(make):
    layer, state = make.build(LearnedPositions.Config(max_length=6, dim=4))
    with pytest.raises(ConfigError, match=r"7 tokens has more positions than max_length \(=6\)"):
        make.call(layer, state, np.arange(7)[None])


def test_activations_are_those_of_the_formulas(rng):
    formulas = {
        "gelu": lambda v: v * (1 + erf(v / sqrt(2))) / 2,
        "gelu_tanh": lambda v: v * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 * v**3))) / 2,
        "relu": lambda v: max(v, 0.0),
        "silu": lambda v: v / (1 + exp(-v)),
        "tanh": tanh,
    }
    x = rng.normal(size=50)
    assert formulas.keys() == ACTIVATIONS.keys()
    for name, formula in formulas.items():
        np.testing.assert_allclose(
            activation(name)(x.astype(np.float32)), [formula(v) for v in x], atol=1e-6
        )


def test_unknown_activation_offers_near_names():
    with pytest.raises(ConfigError, match=r"no activation 'sillu'\. Did you mean 'silu'\?"):
        activation("sillu")
