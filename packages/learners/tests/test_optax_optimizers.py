"""Optimizers on optax equal their papers' formulas in float64, layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.module import ParameterSpec, flatten_paths, ones
from axlearn_learners import (
    ADOPT,
    LAMB,
    SGD,
    Adafactor,
    AdamW,
    AdEMAMix,
    Lion,
    Muon,
    OptaxLearner,
    ParameterGroup,
    ScheduleFreeAdamW,
)

WEIGHT = ParameterSpec((6, 4), ("embed", "mlp"), ones)
SPECS = {
    "stack": {"weight": WEIGHT.stacked(3, "layers")},
    "norm": {"scale": ParameterSpec((4,), ("embed",), ones, weight_decay_scale=0.0)},
    "head": {"weight": WEIGHT},
    "table": {"weight": ParameterSpec((5, 4), ("vocab", "embed"), ones)},
}
STEPS, RATE = 10, 1e-2


def tree(seed, scale=1.0, specs=SPECS):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: np.float32(scale * rng.standard_normal(s.shape)), specs)


def trained(cfg, path="head/weight", steps=STEPS):
    """Returns one parameter (trained, and to evaluate with), its start, and its gradients."""
    learner = OptaxLearner.Config(optimizer=cfg, clip_norm=None).instantiate(specs=SPECS)
    params = jax.tree.map(jnp.asarray, tree(0))
    state, update = learner.init(params), jax.jit(learner.update)
    grads = [tree(step + 1, 0.1) for step in range(steps)]
    for step, g in enumerate(grads):
        params, state, _ = update(g, state, params, step)
    final = learner.evaluation_params(params, state)
    return tuple(
        jax.tree.map(lambda x: np.asarray(x, np.float64), [flatten_paths(t)[path] for t in trees])
        for trees in ([params, final], [tree(0)], grads)
    )


def descend(cfg, formula, decay, path="head/weight", rtol=1e-5):
    """Compares with p = p - RATE * (formula(g, p) + decay * p)."""
    (got, _), (p,), grads = trained(cfg, path)
    for t, g in enumerate(grads, start=1):
        p = p - RATE * (formula(g, t, p) + decay * p)
    np.testing.assert_allclose(got, p, rtol=rtol, atol=2e-6)


class Memory(dict):
    """Means that start at 0."""

    def mean(self, name, decay, value):
        self[name] = decay * self.get(name, 0) + (1 - decay) * value
        return self[name]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_torchs_formula(nesterov):
    memory = {"m": 0}

    def formula(g, t, p):
        memory["m"] = 0.9 * memory["m"] + g
        return g + 0.9 * memory["m"] if nesterov else memory["m"]

    descend(SGD.Config(learning_rate=RATE, nesterov=nesterov), formula, 0)


def test_lion_equals_the_paper():
    memory = Memory()

    def formula(g, t, p):
        sign = np.sign(0.9 * memory.get("m", 0) + 0.1 * g)
        memory.mean("m", 0.99, g)
        return sign

    descend(Lion.Config(learning_rate=RATE, weight_decay=0.3), formula, 0.3)


def test_ademamix_equals_the_paper():
    memory = Memory()

    def formula(g, t, p):
        fast, slow = memory.mean("m1", 0.9, g), memory.mean("m2", 0.99, g)
        v = memory.mean("v", 0.999, g**2) / (1 - 0.999**t)
        return (fast / (1 - 0.9**t) + 5 * slow) / (np.sqrt(v) + 1e-8)

    descend(AdEMAMix.Config(learning_rate=RATE, b3=0.99), formula, 0.1)


def test_adopt_equals_the_paper():
    memory = Memory()

    def formula(g, t, p):
        if t == 1:
            memory["v"] = g**2
            return 0
        u = g / np.maximum(np.sqrt(memory["v"]), 1e-6)
        memory.mean("v", 0.9999, g**2)
        limit = (t - 1) ** 0.25
        return memory.mean("m", 0.9, np.clip(u, -limit, limit))

    descend(ADOPT.Config(learning_rate=RATE), formula, 0.1)


@pytest.mark.parametrize("path", ["head/weight", "norm/scale"])
def test_lamb_equals_the_paper(path):
    memory = Memory()
    decay = 0.3 if path == "head/weight" else 0

    def formula(g, t, p):
        m = memory.mean("m", 0.9, g) / (1 - 0.9**t)
        v = memory.mean("v", 0.999, g**2) / (1 - 0.999**t)
        u = m / (np.sqrt(v) + 1e-6) + decay * p
        return u * np.linalg.norm(p) / np.linalg.norm(u)

    descend(LAMB.Config(learning_rate=RATE, weight_decay=0.3), formula, 0, path)


def test_lamb_moves_a_parameter_that_starts_at_zero():
    specs = {"weight": WEIGHT}
    transformation = LAMB.Config(learning_rate=RATE).instantiate().transformation(specs)
    params, grads = {"weight": jnp.zeros((6, 4))}, tree(1, specs=specs)
    updates, _ = transformation.update(grads, transformation.init(params), params, step=0)
    np.testing.assert_allclose(np.abs(updates["weight"]), RATE, rtol=1e-3)


def adafactor_formula():
    memory = Memory()

    def formula(g, t, p):
        decay = 1 - t**-0.8
        row = memory.mean("row", decay, (g**2 + 1e-30).mean(axis=1))
        column = memory.mean("column", decay, (g**2 + 1e-30).mean(axis=0))
        u = g / np.sqrt(np.outer(row, column) / row.mean())
        u = u / max(1, np.sqrt((u**2).mean()))
        return u * max(1e-3, np.sqrt((p**2).mean()))

    return formula


def test_adafactor_equals_the_paper():
    cfg = Adafactor.Config(learning_rate=RATE, min_dim_to_factor=2)
    descend(cfg, adafactor_formula(), 0)


def test_adafactor_factors_each_layer_of_a_stack_by_itself():
    cfg = Adafactor.Config(learning_rate=RATE, min_dim_to_factor=2)
    (got, _), (start,), grads = trained(cfg, "stack/weight")
    for layer in range(3):
        formula, p = adafactor_formula(), start[layer]
        for t, g in enumerate(grads, start=1):
            p = p - RATE * formula(g[layer], t, p)
        np.testing.assert_allclose(got[layer], p, rtol=1e-5, atol=2e-6)


def orthogonalized(m):
    """Jordan's quintic iteration; float64, and on the matrix as it is."""
    x = m / (np.linalg.norm(m) + 1e-8)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def muon_formula():
    memory = Memory()

    def formula(g, t, p):
        m = memory.mean("m", 0.95, g)
        ahead = 0.95 * m / (1 - 0.95 ** (t + 1)) + 0.05 * g / (1 - 0.95**t)
        return orthogonalized(ahead) * 0.2 * np.sqrt(6)

    return formula


def test_muon_equals_float64():
    descend(Muon.Config(learning_rate=RATE), muon_formula(), 0.1, rtol=1e-4)


def test_muon_orthogonalizes_each_layer_of_a_stack_by_itself():
    (got, _), (start,), grads = trained(Muon.Config(learning_rate=RATE), "stack/weight")
    for layer in range(3):
        formula, p = muon_formula(), start[layer]
        for t, g in enumerate(grads, start=1):
            p = p - RATE * (formula(g[layer], t, p) + 0.1 * p)
        np.testing.assert_allclose(got[layer], p, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("path", ["norm/scale", "table/weight"])
def test_muon_leaves_gains_and_tables_to_adamw(path):
    (got, _), _, _ = trained(Muon.Config(learning_rate=RATE), path)
    (expected, _), _, _ = trained(AdamW.Config(learning_rate=RATE), path)
    np.testing.assert_array_equal(got, expected)


def test_muon_orthogonalizes_what_a_group_does_not_decay_and_no_gains():
    specs = {
        "weight": WEIGHT,
        "gain": ParameterSpec((6, 4), ("heads", "head_dim"), ones, weight_decay_scale=0.0),
    }
    cfg = OptaxLearner.Config(optimizer=Muon.Config(learning_rate=RATE))
    cfg.groups = {"all": ParameterGroup(path=".*", decay_scale=0.0)}
    state = cfg.instantiate(specs=specs).state_axes()
    assert list(state["matrices"][0][0].mu) == ["weight"]
    assert list(state["other"][0].mu) == ["gain"]


@pytest.mark.parametrize(
    "fields", [{"momentum": 1.0}, {"clip_rms": 0.0}, {"decay_exponent": 0.0}], ids=str
)
def test_adafactor_refuses_what_makes_no_sense(fields):
    with pytest.raises(ConfigError, match=rf"{next(iter(fields))} \(="):
        Adafactor.Config(learning_rate=RATE, **fields).instantiate()


def test_muon_without_matrices_says_so():
    cfg = Muon.Config(learning_rate=RATE).instantiate()
    with pytest.raises(ConfigError, match=r"none of these.*norm/scale.*use AdamW"):
        cfg.transformation({"norm": SPECS["norm"]})


def test_schedule_free_adamw_equals_the_paper():
    cfg = ScheduleFreeAdamW.Config(learning_rate=RATE)
    (y, x), (start,), grads = trained(cfg)
    ex = ez = ey = start
    v = 0
    for t, g in enumerate(grads, start=1):
        v = 0.95 * v + 0.05 * g**2
        ez = ez - RATE * (g / (np.sqrt(v / (1 - 0.95**t)) + 1e-8) + 0.1 * ey)
        ex = (1 - 1 / t) * ex + ez / t
        ey = 0.1 * ez + 0.9 * ex
    np.testing.assert_allclose(y, ey, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(x, ex, rtol=1e-5, atol=4e-6)


# State.

MEMORY = {
    "sgd without momentum": (SGD.Config(learning_rate=1.0, momentum=0.0), 0),
    "adafactor with momentum": (
        Adafactor.Config(learning_rate=1.0, momentum=0.9),
        1 + (256 + 128) / (256 * 128),
    ),
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory_with_and_without_momentum_is_as_stated(name):
    cfg, expected = MEMORY[name]
    specs = {"weight": ParameterSpec((256, 128), ("embed", "mlp"), ones).stacked(2, "layers")}
    learner = OptaxLearner.Config(optimizer=cfg).instantiate(specs=specs)
    state = jax.eval_shape(learner.init, jax.tree.map(lambda spec: spec.struct(), specs))
    numbers = sum(x.size for x in jax.tree.leaves(state))
    assert numbers / (2 * 256 * 128) == pytest.approx(expected, abs=2e-4)  # and a few counts


def test_factored_moments_have_the_axis_that_they_keep_in_square_matrices_too():
    square = ParameterSpec((8, 8), ("embed", "mlp"), ones)
    specs = {"layer": square.stacked(8, "layers"), "head": square}
    cfg = Adafactor.Config(learning_rate=1.0, min_dim_to_factor=2)
    axes = OptaxLearner.Config(optimizer=cfg).instantiate(specs=specs).state_axes()[0]
    (stacked, *_), (single, *_) = axes["stacked_8"], axes["single"]
    assert (stacked.v_row["layer"], stacked.v_col["layer"]) == (
        ("layers", "embed"),
        ("layers", "mlp"),
    )
    assert (single.v_row["head"], single.v_col["head"]) == (("embed",), ("mlp",))


def test_axes_of_a_parameter_that_has_one_name_twice_keep_the_first():
    specs = {"weight": ParameterSpec((4, 4), ("embed", "embed"), ones)}
    learner = OptaxLearner.Config(optimizer=SGD.Config(learning_rate=1.0)).instantiate(specs=specs)
    assert isinstance(learner.state_axes()[0], optax.TraceState)
    assert learner.state_axes()[0].trace["weight"] == ("embed", None)
