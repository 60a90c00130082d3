"""Steps with a bad gradient change nothing but the count of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError, from_json, to_json
from axlearn_core.module import ParameterSpec, ones
from axlearn_core.plugins import get_registry
from axlearn_learners import AdamW, OptaxLearner, SkipSteps, WarmupCosine

SPECS = {"weight": ParameterSpec((3, 4), ("embed", "mlp"), ones)}
PARAMS = {"weight": jnp.ones((3, 4))}


def gradient(norm):
    return {"weight": jnp.full((3, 4), norm / np.sqrt(12), jnp.float32)}


def config(**fields):
    inner = OptaxLearner.Config(optimizer=AdamW.Config(learning_rate=0.1))
    return SkipSteps.Config(learner=inner, **fields)


def run(cfg, *norms):
    """Returns the last parameters and state, and for each step whether it was skipped."""
    learner = cfg.instantiate(specs=SPECS)
    params, state, update = PARAMS, learner.init(PARAMS), jax.jit(learner.update)
    skipped = []
    for step, norm in enumerate(norms):
        params, state, metrics = update(gradient(norm), state, params, step)
        skipped.append(bool(metrics["skipped"]))
        count = int(metrics["skipped_steps"])
    assert count == sum(skipped)
    return params, state, skipped


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), a, b))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1000.0])
def test_a_bad_gradient_changes_neither_parameters_nor_optimizer_state(bad):
    params, state, skipped = run(config(), 1.0, bad)
    expected, before, _ = run(config(), 1.0)
    assert skipped == [False, True]
    assert same(params, expected)
    assert same(state.learner, before.learner)


def test_training_after_a_skipped_step_is_as_if_it_had_not_been():
    params, _, _ = run(config(), 1.0, np.nan, 0.5)
    expected, _, _ = run(config(), 1.0, 0.5)
    assert same(params, expected)


def test_a_gradient_at_the_limit_is_taken():
    assert run(config(max_norm=10.0), 9.99, 10.1)[2] == [False, True]


def test_without_a_limit_only_what_is_not_finite_is_skipped():
    assert run(config(max_norm=None), 1e6, np.inf)[2] == [False, True]


def test_a_spike_is_skipped_once_the_mean_norm_is_known():
    cfg = config(spike=3.0, mean_decay=0.75)  # known after 4 steps
    assert run(cfg, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 9.0, 2.0)[2] == [False] * 6 + [True, False]


def test_a_spike_does_not_raise_the_mean_that_it_is_compared_with():
    cfg = config(spike=3.0, mean_decay=0.75)
    assert run(cfg, *[1.0] * 5, *[9.0] * 5)[2] == [False] * 5 + [True] * 5


def test_the_mean_norm_equals_float64():
    norms = [1.0, 2.0, 0.5, 3.0]
    _, state, _ = run(config(mean_decay=0.75), *norms)
    weights = 0.25 * 0.75 ** np.arange(3, -1, -1)
    np.testing.assert_allclose(state.mean_norm, weights @ norms, rtol=1e-6)
    np.testing.assert_allclose(state.weight, weights.sum(), rtol=1e-6)


def test_schedules_inside_take_the_length_of_the_learner_outside():
    cfg = config(total_steps=90)
    cfg.learner.optimizer.learning_rate = WarmupCosine.Config(peak=1.0, warmup=0.1)
    learner = cfg.instantiate(specs=SPECS)
    metrics = learner.update(gradient(1.0), learner.init(PARAMS), PARAMS, 0).metrics
    np.testing.assert_allclose(metrics["learning_rate"], 0.1, rtol=1e-6)


def test_state_axes_are_those_of_the_learner_inside_and_of_scalars():
    axes = config().instantiate(specs=SPECS).state_axes()
    assert axes.learner[0].mu["weight"] == ("embed", "mlp")
    assert (axes.skipped, axes.mean_norm, axes.weight) == ((), (), ())


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"max_norm": 0.0}, "write None for no limit"),
        ({"spike": 1.0}, "must be above 1"),
        ({"mean_decay": 1.0}, "below 1"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(fields, match):
    with pytest.raises(ConfigError, match=match):
        config(**fields).instantiate(specs=SPECS)


def test_config_survives_json_through_the_registry():
    registry = get_registry()
    assert from_json(to_json(config(), registry), SkipSteps.Config, registry) == config()
