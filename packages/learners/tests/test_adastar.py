"""AdaStar and decoupled AdamW equal independent versions in float64, steps skipped included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.module import ParameterSpec, ones
from axlearn_learners import AdaStar, DecoupledAdamW, OptaxLearner, SkipSteps, WarmupCosine

WEIGHT = ParameterSpec((6, 4), ("embed", "mlp"), ones)
SPECS = {
    "stack": {"weight": WEIGHT.stacked(3, "layers")},
    "norm": {"scale": ParameterSpec((4,), ("embed",), ones, weight_decay_scale=0.0)},
    "head": {"weight": WEIGHT},
}
SCHEDULE = WarmupCosine.Config(peak=1.0, warmup=9, total_steps=100)
STEPS = 100


def gradients(step):
    """Of changing size: most are clipped, every 17th is above the norm at which to skip."""
    rng = np.random.default_rng(step)
    size = 100.0 if step % 17 == 11 else 0.02 * (1 + step % 5) ** 2
    return jax.tree.map(lambda s: np.float32(size * rng.standard_normal(s.shape)), SPECS)


def initial():
    return jax.tree.map(lambda g: jnp.asarray(g), gradients(1000))


def trained(optimizer):
    inner = OptaxLearner.Config(optimizer=optimizer, clip_norm=1.0)
    learner = SkipSteps.Config(learner=inner, max_norm=100.0).instantiate(specs=SPECS)
    params = initial()
    state, update = learner.init(params), jax.jit(learner.update)
    for step in range(STEPS):
        params, state, metrics = update(gradients(step), state, params, step)
    return params, metrics


def leaves(tree):
    """By layer: each of a stack is a parameter of its own."""
    flat = [np.asarray(x, np.float64) for x in [tree["head"]["weight"], tree["norm"]["scale"]]]
    return [*flat, *np.asarray(tree["stack"]["weight"], np.float64)]


DECAYED = [1, 0, 1, 1, 1]


def in_float64(direction, lr=0.01, wd=3.16e-4):
    """Clips to norm 1, skips above 100, and descends; the direction is a function with a memory."""
    schedule = SCHEDULE.instantiate()
    params, skipped = leaves(initial()), 0
    for step in range(STEPS):
        grads = leaves(gradients(step))
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        if norm > 100:
            skipped += 1
            continue
        directions = direction([g * min(1, 1 / norm) for g in grads])
        s = float(schedule(step))
        for i, (p, u) in enumerate(zip(params, directions, strict=True)):
            params[i] = p - s * (lr * u + wd * DECAYED[i] * p)
    return params, skipped


def adastar_direction():
    v, m, t = [0] * 5, [0] * 5, 0

    def direction(grads):
        nonlocal t
        t += 1
        for i, g in enumerate(grads):
            v[i] = 0.95 * v[i] + 0.05 * (g**2 + 1e-30)
            u = g / np.sqrt(v[i] / (1 - 0.95**t))
            u = u / max(1, np.sqrt((u**2).mean()))
            m[i] = 0.95 * m[i] + 0.05 * u
        return m

    return direction


def adam_direction():
    m, v, t = [0] * 5, [0] * 5, 0

    def direction(grads):
        nonlocal t
        t += 1
        for i, g in enumerate(grads):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.95 * v[i] + 0.05 * g**2
        return [
            a / (1 - 0.9**t) / (np.sqrt(b / (1 - 0.95**t)) + 1e-8)
            for a, b in zip(m, v, strict=True)
        ]

    return direction


def test_adastar_that_clips_and_skips_equals_float64_over_100_steps():
    params, metrics = trained(AdaStar.Config(learning_rate=0.01, schedule=SCHEDULE))
    expected, skipped = in_float64(adastar_direction())
    assert metrics["skipped_steps"] == skipped == 6
    for got, wanted in zip(leaves(params), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_decoupled_adamw_equals_float64_over_100_steps():
    cfg = DecoupledAdamW.Config(learning_rate=0.01, schedule=SCHEDULE, weight_decay=1e-2)
    expected, _ = in_float64(adam_direction(), wd=1e-2)
    for got, wanted in zip(leaves(trained(cfg)[0]), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=2e-6)


def first_update(optimizer, grads, specs=SPECS):
    transformation = optimizer.instantiate().transformation(specs)
    params = jax.tree.map(jnp.ones_like, grads)
    return transformation.update(grads, transformation.init(params), params, step=0)[0]


def test_decay_does_not_follow_the_learning_rate():
    zeros = jax.tree.map(jnp.zeros_like, initial())
    for rate in (0.0, 1.0):
        updates = first_update(AdaStar.Config(learning_rate=rate, weight_decay=0.5), zeros)
        assert (updates["head"]["weight"] == -0.5).all()
        assert (updates["norm"]["scale"] == 0).all()


def test_adastar_treats_a_stack_as_its_layers():
    cfg = AdaStar.Config(learning_rate=0.01, clip_rms=0.5)
    grads = initial()
    # Only the last layer is large, so that one mean over the stack would change all.
    stack = grads["stack"]["weight"] * jnp.asarray([1, 1, 50.0])[:, None, None]
    stacked = first_update(cfg, grads | {"stack": {"weight": stack}})["stack"]["weight"]
    specs = {f"layer{i}": {"weight": WEIGHT} for i in range(3)}
    apart = first_update(cfg, {f"layer{i}": {"weight": stack[i]} for i in range(3)}, specs)
    np.testing.assert_array_equal(stacked, [apart[f"layer{i}"]["weight"] for i in range(3)])


def test_the_learning_rate_that_is_reported_is_the_product_with_the_schedule():
    optimizer = AdaStar.Config(learning_rate=0.01, schedule=SCHEDULE).instantiate()
    np.testing.assert_allclose(optimizer.learning_rate(4), 0.005, rtol=1e-6)


def test_a_gradient_of_zero_gives_no_step():
    zeros = jax.tree.map(jnp.zeros_like, initial())
    updates = first_update(AdaStar.Config(learning_rate=1.0, weight_decay=0.0), zeros)
    assert jax.tree.all(jax.tree.map(lambda u: (u == 0).all(), updates))


@pytest.mark.parametrize("kind", [AdaStar, DecoupledAdamW])
def test_a_decay_of_one_is_refused(kind):
    with pytest.raises(ConfigError, match=r"b2 \(=1.0\) must be"):
        kind.Config(learning_rate=1.0, b2=1.0).instantiate()


@pytest.mark.parametrize("name", ["eps", "clip_rms"])
def test_a_limit_of_zero_is_refused(name):
    with pytest.raises(ConfigError, match=rf"{name} \(=0.0\) must be positive"):
        AdaStar.Config(learning_rate=1.0, **{name: 0.0}).instantiate()


def test_state_has_the_axes_of_the_parameters():
    learner = OptaxLearner.Config(optimizer=AdaStar.Config(learning_rate=1.0))
    axes = learner.instantiate(specs=SPECS).state_axes()[0]
    assert axes.m["stack"]["weight"] == axes.v["stack"]["weight"] == ("layers", "embed", "mlp")
    assert axes.updates == ()
