"""Experts whose products are of eight bits."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import replace
from axlearn_layers import (
    CapacityDispatch,
    Dropless,
    GatedExperts,
    MixtureOfExperts,
    QuantizedGatedExperts,
)

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 8)), jnp.float32)


def outputs(make, dispatch, format):
    cfg = MixtureOfExperts.default_config().set(
        input_dim=8, hidden_dim=16, num_experts=4, top_k=2, dispatch=dispatch
    )
    if format:
        quantized = QuantizedGatedExperts.default_config().set(format=format)
        replace(cfg, GatedExperts, quantized)
    layer, state = make.build(cfg)
    return make.call(layer, state, X)


@pytest.mark.parametrize("format", ["float8", "int8"])
def test_both_dispatches_multiply_the_same_numbers(make, format):
    ways = [Dropless.default_config(), CapacityDispatch.default_config().set(factor=4.0)]
    dropless, capacity = (outputs(make, dispatch, format) for dispatch in ways)
    np.testing.assert_allclose(dropless, capacity, rtol=1e-5, atol=1e-6)


def test_they_are_near_those_of_the_stored_numbers_and_not_the_same(make):
    exact, rounded = (outputs(make, Dropless.default_config(), f) for f in (None, "int8"))
    # Three products after one another, each with errors of 1/254 of a row's largest value.
    assert 0 < np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()
