"""The mean of weights follows them as its formula says, and is what evaluation sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.module import ParameterSpec, ones
from axlearn_learners import SGD, AdamW, AverageWeights, OptaxLearner, SkipSteps

SPECS = {"weight": ParameterSpec((3, 4), ("embed", "mlp"), ones)}


def array(seed):
    return np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32)


def config(**fields):
    inner = OptaxLearner.Config(optimizer=SGD.Config(learning_rate=0.1, momentum=0.0))
    return AverageWeights.Config(learner=inner.set(clip_norm=None), **fields)


def run(cfg, steps=20):
    learner = cfg.instantiate(specs=SPECS)
    params = {"weight": jnp.asarray(array(0))}
    state, update = learner.init(params), jax.jit(learner.update)
    for step in range(steps):
        params, state, _ = update({"weight": jnp.asarray(array(step + 1))}, state, params, step)
    return params["weight"], learner.evaluation_params(params, state)["weight"], state


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_mean_equals_float64(decay):
    p = mean = array(0).astype(np.float64)
    for step in range(20):
        p = p - 0.1 * array(step + 1).astype(np.float64)
        d = min(decay, (1 + step) / (10 + step))
        mean = d * mean + (1 - d) * p
    np.testing.assert_allclose(run(config(decay=decay))[1], mean, rtol=1e-5, atol=1e-6)


def test_training_does_not_see_the_mean():
    plain = config().learner.instantiate(specs=SPECS)
    params = {"weight": jnp.asarray(array(0))}
    state, update = plain.init(params), jax.jit(plain.update)
    for step in range(20):
        params, state, _ = update({"weight": jnp.asarray(array(step + 1))}, state, params, step)
    np.testing.assert_array_equal(run(config())[0], params["weight"])


def test_the_mean_lives_where_the_parameters_live():
    axes = config().instantiate(specs=SPECS).state_axes()
    assert axes.mean == {"weight": ("embed", "mlp")}


def test_wrappers_go_around_one_another():
    inner = config().set(learner=OptaxLearner.Config(optimizer=AdamW.Config(learning_rate=0.1)))
    both = SkipSteps.Config(learner=inner)
    np.testing.assert_array_equal(run(both)[1], run(inner)[1])


def test_a_decay_of_one_is_refused():
    with pytest.raises(ConfigError, match=r"decay \(=1.0\) must be"):
        config(decay=1.0).instantiate(specs=SPECS)
