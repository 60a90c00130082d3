"""Initial values have the promised distribution and dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.module import Constant, FanIn, Normal, ParameterSpec, ones, zeros

KEY = jax.random.key(0)
SPEC = ParameterSpec((64, 4096), ("embed", "mlp"), ones)


@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
def test_fan_in_gives_variance_one_over_the_summed_dimension(distribution):
    sample = FanIn.Config(distribution=distribution).instantiate()(KEY, SPEC)
    # The variance of 2^18 samples deviates by less than 1 % with 3 standard deviations to spare.
    np.testing.assert_allclose(jnp.var(sample), 1 / 64, rtol=0.01)


def test_fan_in_multiplies_the_dimensions_that_are_summed_over():
    spec = ParameterSpec((8, 8, 4096), ("heads", "head_dim", "embed"), ones, fan_in_axes=(0, 1))
    sample = FanIn.default_config().instantiate()(KEY, spec)
    np.testing.assert_allclose(jnp.var(sample), 1 / 64, rtol=0.01)


def test_fan_in_scales_the_variance():
    sample = FanIn.Config(scale=4.0).instantiate()(KEY, SPEC)
    np.testing.assert_allclose(jnp.var(sample), 4 / 64, rtol=0.01)


def test_a_truncated_normal_ends_at_two_standard_deviations():
    sample = FanIn.Config(distribution="truncated_normal").instantiate()(KEY, SPEC)
    assert jnp.abs(sample).max() <= 2 / 0.8796256 / 8


def test_normal_has_its_standard_deviation():
    sample = Normal.Config(stddev=0.5).instantiate()(KEY, SPEC)
    np.testing.assert_allclose([sample.mean(), sample.std()], [0, 0.5], atol=0.005)


@pytest.mark.parametrize(
    ("initializer", "value"),
    [(Constant.Config(value=3.0).instantiate(), 3), (ones, 1), (zeros, 0)],
)
def test_constants_fill_the_parameter(initializer, value):
    assert (initializer(KEY, SPEC) == value).all()


@pytest.mark.parametrize(
    "initializer",
    [
        Constant.default_config().instantiate(),
        Normal.default_config().instantiate(),
        FanIn.default_config().instantiate(),
        ones,
        zeros,
    ],
)
def test_values_have_the_declared_shape_and_dtype(initializer):
    spec = ParameterSpec((4, 2), ("embed", "mlp"), initializer, dtype="bfloat16")
    made = initializer(KEY, spec)
    assert (made.shape, made.dtype) == ((4, 2), jnp.bfloat16)


def test_stacking_keeps_the_fan_in():
    assert SPEC.stacked(3, "layers").fan_in_axes == (1,)
