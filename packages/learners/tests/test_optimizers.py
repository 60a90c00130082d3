"""AdamW equals optax's, and an independent one in float64; decay is masked as declared."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.module import ParameterSpec, ones
from axlearn_learners import AdamW, WarmupCosine

SPECS = {
    "decoder": {
        "weight": ParameterSpec((3, 4), ("embed", "mlp"), ones),
        "norm": {"scale": ParameterSpec((4,), ("embed",), ones, weight_decay_scale=0.0)},
    },
    "head": {"weight": ParameterSpec((4, 5), ("embed", "vocab"), ones)},
}


def tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jnp.asarray(scale * rng.standard_normal(s.shape), jnp.float32), SPECS
    )


def adamw(**fields):
    return AdamW.Config(**{"learning_rate": 1e-2, **fields}).instantiate()


def run(optimizer, steps=20, specs=SPECS):
    """Returns the parameters after some updates with reproducible gradients."""
    transformation = optimizer.transformation(specs)
    params = tree(0)
    state = transformation.init(params)

    @jax.jit
    def one(params, state, grads, step):
        updates, state = transformation.update(grads, state, params, step=step)
        return optax.apply_updates(params, updates), state

    for step in range(steps):
        params, state = one(params, state, tree(step + 1, 0.1), step)
    return params


def adamw_in_float64(rate, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1, steps=20):
    """AdamW as torch documents it, for the parameters of SPECS; `rate` maps steps to rates."""

    def flat(t):
        return [np.asarray(x, np.float64) for x in jax.tree.leaves(t)]

    decays = [weight_decay * s.weight_decay_scale for s in jax.tree.leaves(SPECS)]
    params = flat(tree(0))
    m, v = [0 * p for p in params], [0 * p for p in params]
    for t in range(1, steps + 1):
        lr = rate(t - 1)
        for i, g in enumerate(flat(tree(t, 0.1))):
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g**2
            params[i] = params[i] - lr * decays[i] * params[i]
            denominator = np.sqrt(v[i]) / np.sqrt(1 - b2**t) + eps
            params[i] = params[i] - lr / (1 - b1**t) * m[i] / denominator
    return params


def assert_close(tree, leaves, rtol=1e-5):
    # 20 updates of 1e-2 in float32, each exact to an ulp of parameters of size 1.
    for got, expected in zip(jax.tree.leaves(tree), leaves, strict=True):
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=2e-6)


def test_adamw_equals_optax_to_the_bit():
    decayed = jax.tree.map(lambda spec: spec.weight_decay_scale != 0, SPECS)
    optaxs = optax.with_extra_args_support(
        optax.adamw(1e-2, 0.9, 0.95, 1e-8, weight_decay=0.1, mask=decayed)
    )

    class Theirs:
        def transformation(self, specs):
            return optaxs

    for ours, theirs in zip(
        jax.tree.leaves(run(adamw())), jax.tree.leaves(run(Theirs())), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_adamw_equals_torchs_formula_in_float64():
    assert_close(run(adamw()), adamw_in_float64(lambda step: 1e-2))


def test_adamw_follows_a_schedule():
    schedule = WarmupCosine.Config(peak=1e-2, warmup=5, total_steps=20)
    expected = adamw_in_float64(lambda step: float(schedule.instantiate()(step)))
    assert_close(run(adamw(learning_rate=schedule)), expected)


def test_the_schedule_follows_the_given_step_and_no_count_of_its_own():
    schedule = WarmupCosine.Config(peak=1.0, warmup=9, total_steps=100)
    transformation = adamw(learning_rate=schedule, weight_decay=0.0).transformation(SPECS)
    params = tree(0)
    state = transformation.init(params)
    first, _ = transformation.update(tree(1), state, params, step=0)
    fifth, _ = transformation.update(tree(1), state, params, step=4)
    np.testing.assert_allclose(fifth["head"]["weight"], 5 * first["head"]["weight"], rtol=1e-5)


def test_weight_decay_scale_of_a_parameter_multiplies_the_decay():
    transformation = adamw(weight_decay=0.5).transformation(SPECS)
    params, zeros = tree(0), jax.tree.map(jnp.zeros_like, tree(0))
    updates, _ = transformation.update(zeros, transformation.init(params), params, step=0)
    np.testing.assert_allclose(
        updates["head"]["weight"], -1e-2 * 0.5 * params["head"]["weight"], rtol=1e-6
    )
    assert (updates["decoder"]["norm"]["scale"] == 0).all()


def test_no_decay_excludes_parameters_by_path():
    transformation = adamw(no_decay="head/.*").transformation(SPECS)
    params, zeros = tree(0), jax.tree.map(jnp.zeros_like, tree(0))
    updates, _ = transformation.update(zeros, transformation.init(params), params, step=0)
    assert (updates["head"]["weight"] == 0).all()
    assert (updates["decoder"]["weight"] != 0).all()


def test_no_decay_that_matches_nothing_lists_the_paths():
    with pytest.raises(ConfigError, match=r"matches no parameter.*decoder/norm/scale"):
        adamw(no_decay="biases").transformation(SPECS)


def test_no_decay_must_match_the_whole_path():
    with pytest.raises(ConfigError, match="whole path"):
        adamw(no_decay="weight").transformation(SPECS)


@pytest.mark.parametrize("name", ["b1", "b2"])
def test_a_moment_decay_of_one_is_refused(name):
    with pytest.raises(ConfigError, match=rf"{name} \(=1.0\) must be"):
        adamw(**{name: 1.0})
