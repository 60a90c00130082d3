"""The mean of weights follows them as its formula says, and is what evaluation sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.module import ParameterSpec, ones
from axlearn_learners import (
    SGD,
    AdamW,
    AverageWeights,
    OptaxLearner,
    ParameterGroup,
    SkipSteps,
)

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


def test_frozen_parameters_have_no_mean_and_are_evaluated_as_they_are():
    specs = {**SPECS, "table": ParameterSpec((5, 4), ("vocab", "embed"), ones)}
    inner = OptaxLearner.Config(optimizer=SGD.Config(learning_rate=0.1))
    inner.groups = {"ice": ParameterGroup(axis="vocab", frozen=True)}
    learner = AverageWeights.Config(learner=SkipSteps.Config(learner=inner)).instantiate(
        specs=specs
    )
    params = {"weight": jnp.asarray(array(0)), "table": jnp.full((5, 4), 7.0)}
    state = learner.init(params)
    assert list(state.mean) == list(learner.state_axes().mean) == ["weight"]
    params, state, _ = learner.update(params, state, params, jnp.int32(0))
    evaluated = learner.evaluation_params(params, state)
    np.testing.assert_array_equal(evaluated["table"], 7.0)
    assert (evaluated["weight"] != params["weight"]).any()


def test_the_mean_of_bfloat16_parameters_moves_by_less_than_they_can():
    specs = {"weight": ParameterSpec((2,), ("embed",), ones, dtype="bfloat16")}
    learner = config(decay=0.999).instantiate(specs=specs)
    before = learner.init({"weight": jnp.ones(2, jnp.bfloat16)})
    params = {"weight": jnp.full(2, 1.5, jnp.bfloat16)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    _, state, _ = learner.update(zeros, before, params, jnp.int32(10_000))
    np.testing.assert_allclose(state.mean["weight"], 1.0005, rtol=1e-6)
    assert learner.evaluation_params(params, state)["weight"].dtype == jnp.bfloat16


def test_wrappers_go_around_one_another():
    inner = config().set(learner=OptaxLearner.Config(optimizer=AdamW.Config(learning_rate=0.1)))
    both = SkipSteps.Config(learner=inner)
    np.testing.assert_array_equal(run(both)[1], run(inner)[1])


def test_a_decay_of_one_is_refused():
    with pytest.raises(ConfigError, match=r"decay \(=1.0\) must be"):
        config(decay=1.0).instantiate(specs=SPECS)
