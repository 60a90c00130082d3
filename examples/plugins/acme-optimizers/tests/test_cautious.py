"""Cautious AdamW against its formula in float64, layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from axlearn_core.config import BuildError, ConfigError
from axlearn_core.module import ParameterSpec, ones
from axlearn_learners import OptaxLearner

from acme_optimizers import CautiousAdamW

WEIGHT = ParameterSpec((4, 6), ("embed", "mlp"), ones)
GAIN = ParameterSpec((6,), ("mlp",), ones, weight_decay_scale=0.0)
SPECS = {"stack": {"weight": WEIGHT.stacked(3, "layers")}, "head": {"weight": WEIGHT, "g": GAIN}}


def learner(**fields):
    optimizer = CautiousAdamW.default_config().set(**{"learning_rate": 0.01} | fields)
    return OptaxLearner.Config(optimizer=optimizer, clip_norm=None).instantiate(specs=SPECS)


def draw(rng):
    return jax.tree.map(lambda spec: rng.normal(size=spec.shape), SPECS)


def as_float32(tree):
    return jax.tree.map(jnp.float32, tree)


def layers(tree):
    """Lists every layer's own parameters."""
    return [*tree["stack"]["weight"], tree["head"]["weight"], tree["head"]["g"]]


def in_float64(params, gradients, *, rate, b1, b2, eps, decay):
    """The paper's algorithm for one parameter."""
    p, m, v = params, 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        mask = (u * g > 0).astype(float)
        p = p - rate * (u * mask / max(mask.mean(), 1e-3) + decay * p)
    return p


def test_updates_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    start, gradients = draw(rng), [draw(rng) for _ in range(20)]
    trained = learner(b1=0.8, b2=0.9, weight_decay=0.1)
    params = as_float32(start)
    state, update = trained.init(params), jax.jit(trained.update)
    for step, gradient in enumerate(gradients):
        params, state, _ = update(as_float32(gradient), state, params, step)
    for i, got in enumerate(layers(params)):
        expected = in_float64(
            layers(start)[i],
            [layers(g)[i] for g in gradients],
            rate=0.01,
            b1=0.8,
            b2=0.9,
            eps=1e-8,
            decay=0.0 if i == 4 else 0.1,  # the gain declares that it does not decay
        )
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)  # float32 against float64


def test_a_mean_that_never_forgets_is_refused():
    with pytest.raises((BuildError, ConfigError), match=r"b2 \(=1.0\) must be at least 0"):
        learner(b2=1.0)
