"""The learner: clips, updates, reports, and says where its state lives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from axlearn_core.config import (
    ConfigError,
    Configurable,
    MissingFieldsError,
    apply_overrides,
    from_json,
    to_json,
    to_text,
)
from axlearn_core.module import ParameterSpec, ones
from axlearn_core.plugins import get_registry
from axlearn_learners import (
    AdamW,
    OptaxLearner,
    WarmupCosine,
    WarmupStableDecay,
    clip_by_global_norm,
    global_norm,
)

WEIGHT = ParameterSpec((3, 4), ("embed", "mlp"), ones)
SPECS = {"layer": {"weight": WEIGHT.stacked(2, "layers")}, "head": {"weight": WEIGHT}}


def tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jnp.asarray(scale * rng.standard_normal(s.shape), jnp.float32), SPECS
    )


def config(**fields):
    cfg = OptaxLearner.default_config().set(**fields)
    cfg.optimizer.set(learning_rate=1e-2)
    return cfg


def update(cfg, grads, step=0):
    learner = cfg.instantiate(specs=SPECS)
    params = tree(0)
    return jax.jit(learner.update)(grads, learner.init(params), params, step)


def norm_in_float64(tree):
    return np.sqrt(sum((np.asarray(x, np.float64) ** 2).sum() for x in jax.tree.leaves(tree)))


# Clipping.


def test_global_norm_is_that_of_all_numbers_together():
    np.testing.assert_allclose(global_norm(tree(1)), norm_in_float64(tree(1)), rtol=1e-6)


def test_global_norm_of_bfloat16_is_summed_in_float32():
    ones = {"w": jnp.ones((1000, 10), jnp.bfloat16)}  # in bfloat16, 256 + 1 = 256
    assert global_norm(ones) == 100


def test_gradients_above_the_limit_are_scaled_to_it():
    grads = tree(1, 10.0)
    clipped = clip_by_global_norm(grads, global_norm(grads), 1.0)
    np.testing.assert_allclose(norm_in_float64(clipped), 1, rtol=1e-6)


def test_gradients_below_the_limit_keep_their_bits():
    grads = tree(1, 1e-3)
    clipped = clip_by_global_norm(grads, global_norm(grads), 1.0)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), grads, clipped))


def test_gradients_of_zero_stay_zero():
    zeros = jax.tree.map(jnp.zeros_like, tree(0))
    clipped = clip_by_global_norm(zeros, global_norm(zeros), 1.0)
    assert jax.tree.all(jax.tree.map(lambda g: (g == 0).all(), clipped))


def test_clipped_gradients_keep_their_dtype():
    grads = {"w": jnp.full((4,), 100, jnp.bfloat16)}
    assert clip_by_global_norm(grads, global_norm(grads), 1.0)["w"].dtype == jnp.bfloat16


# Updates.


@pytest.mark.parametrize("scale", [1e-3, 10.0])
def test_update_equals_optaxs_chain_of_clipping_and_adamw(scale):
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-2, 0.9, 0.95, 1e-8, weight_decay=0.1)
    )
    params, grads = tree(0), tree(1, scale)
    changes, _ = theirs.update(grads, theirs.init(params), params)
    expected = optax.apply_updates(params, changes)
    for ours, other in zip(
        jax.tree.leaves(update(config(), grads).params), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, other, rtol=1e-6)


def test_without_a_limit_nothing_is_clipped():
    grads = tree(1, 10.0)
    # Squared gradients show the scale, which the first update of Adam hides.
    clipped = update(config(), grads).opt_state[0].nu
    plain = update(config(clip_norm=None), grads).opt_state[0].nu
    assert global_norm(plain) > 100 * global_norm(clipped)


def test_learning_lowers_a_quadratic_loss():
    learner = config(clip_norm=None).instantiate(specs=SPECS)
    params = tree(0)
    state = learner.init(params)
    for step in range(50):
        params, state, _ = learner.update(params, state, params, jnp.int32(step))
    assert global_norm(params) < 0.8 * global_norm(tree(0))


def test_gradient_norm_is_reported_before_clipping():
    grads = tree(1, 10.0)
    metrics = update(config(), grads).metrics
    np.testing.assert_allclose(metrics["gradient_norm"], norm_in_float64(grads), rtol=1e-6)


def test_update_norm_is_how_far_the_parameters_move():
    changed = update(config(), tree(1))
    moved = jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, changed.params, tree(0))
    # The difference of two float32 parameters of size 1 is exact to 1e-7, a step is 1e-2.
    np.testing.assert_allclose(changed.metrics["update_norm"], norm_in_float64(moved), rtol=1e-4)


def test_learning_rate_of_the_step_is_reported():
    cfg = config(total_steps=100)
    cfg.optimizer.learning_rate = WarmupCosine.Config(peak=1.0, warmup=9)
    np.testing.assert_allclose(update(cfg, tree(1), step=4).metrics["learning_rate"], 0.5)


def test_metrics_are_scalars():
    assert {value.shape for value in update(config(), tree(1)).metrics.values()} == {()}


def test_a_gradient_that_is_not_finite_shows_in_the_norm():
    grads = tree(1)
    grads["head"]["weight"] = grads["head"]["weight"].at[0, 0].set(jnp.nan)
    assert not jnp.isfinite(update(config(), grads).metrics["gradient_norm"])


# State.


def test_state_axes_follow_the_parameters_stacked_ones_too():
    adam = config().instantiate(specs=SPECS).state_axes()[0]
    expected = {
        "layer": {"weight": ("layers", "embed", "mlp")},
        "head": {"weight": ("embed", "mlp")},
    }
    assert (adam.mu, adam.nu) == (expected, expected)


def test_state_axes_of_a_count_are_empty():
    assert config().instantiate(specs=SPECS).state_axes()[0].count == ()


def test_state_axes_have_one_name_per_dimension_of_each_state_leaf():
    learner = config().instantiate(specs=SPECS)
    state = jax.eval_shape(learner.init, tree(0))
    fits = jax.tree.map(lambda leaf, axes: leaf.ndim == len(axes), state, learner.state_axes())
    assert jax.tree.all(fits)


# Configs.


def test_schedules_take_the_length_of_the_learner():
    cfg = config(total_steps=40)
    cfg.optimizer.learning_rate = WarmupStableDecay.Config(peak=1.0)
    learner = cfg.instantiate(specs=SPECS)
    assert learner.optimizer.learning_rate.config.total_steps == 40


def test_a_schedule_keeps_a_length_of_its_own():
    cfg = config(total_steps=40)
    cfg.optimizer.learning_rate = WarmupCosine.Config(peak=1.0, total_steps=100)
    learner = cfg.instantiate(specs=SPECS)
    assert learner.optimizer.learning_rate.config.total_steps == 100


def test_a_learner_without_a_learning_rate_says_where_to_write_it():
    with pytest.raises(MissingFieldsError, match=r"optimizer\.learning_rate"):
        OptaxLearner.default_config().instantiate(specs=SPECS)


def test_a_clip_norm_of_zero_is_refused():
    with pytest.raises(ConfigError, match="write None for no limit"):
        config(clip_norm=0.0).instantiate(specs=SPECS)


def test_config_survives_json_through_the_registry():
    cfg = config(clip_norm=None)
    cfg.optimizer.learning_rate = WarmupCosine.Config(peak=3e-4, warmup=0.1)
    registry = get_registry()
    assert from_json(to_json(cfg, registry), OptaxLearner.Config, registry) == cfg


def test_text_holds_what_differs_from_the_defaults():
    cfg = config()
    cfg.optimizer.b2 = 0.999
    assert to_text(cfg).splitlines()[-2:] == [
        "optimizer.b2: 0.999",
        "optimizer.learning_rate: 0.01",
    ]


def test_an_override_puts_a_registered_schedule_in_place_of_a_number():
    words = ["optimizer.learning_rate=learners/warmup_cosine", "optimizer.learning_rate.peak=1e-3"]
    cfg = apply_overrides(config(), words, resolve=get_registry().lookup)
    assert cfg.optimizer.learning_rate == WarmupCosine.Config(peak=1e-3)


OWN = [c for c in get_registry().records() if c.distribution == "axlearn-learners"]


@pytest.mark.parametrize("component", OWN, ids=lambda component: component.name)
def test_every_record_of_this_package_leads_to_a_configurable(component):
    assert issubclass(component.load(), Configurable)


def test_adamw_is_registered():
    assert get_registry().optimizer("adamw") is AdamW
