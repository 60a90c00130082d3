"""What holds for every optimizer that this package registers; a new one is tested unasked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.module import ParameterSpec, flatten_paths, ones
from axlearn_core.plugins import get_registry
from axlearn_core.training.model import Loss, Model
from axlearn_core.training.state import initial_state
from axlearn_core.training.step import make_train_step
from axlearn_learners import OptaxLearner, ParameterGroup, WarmupLinear

NAMES = sorted(
    c.name for c in get_registry().records("optimizer") if c.distribution == "axlearn-learners"
)
every_optimizer = pytest.mark.parametrize("name", NAMES)

SIZES = {"layers": 3, "embed": 6, "mlp": 4, "vocab": 5}


def spec(*axes, **fields):
    return ParameterSpec(tuple(SIZES[name] for name in axes), axes, ones, **fields)


WEIGHT = spec("embed", "mlp")
SPECS = {
    "stack": {
        "weight": WEIGHT.stacked(3, "layers"),
        "scale": spec("embed", weight_decay_scale=0.0).stacked(3, "layers"),
    },
    "norm": {"scale": spec("embed", weight_decay_scale=0.0)},
    "head": {"weight": WEIGHT},
    "table": {"weight": spec("vocab", "embed")},
}


def with_dtype(specs, dtype):
    return jax.tree.map(lambda s: ParameterSpec(s.shape, s.axes, ones, dtype=dtype), specs)


def config(name, *, rate=1e-2, **fields):
    """A learner with what its optimizer must be told, and factors even where they are small."""
    optimizer = get_registry().optimizer(name).default_config().set(learning_rate=rate)
    if name == "adafactor":
        optimizer.min_dim_to_factor = 2
    return OptaxLearner.Config(optimizer=optimizer, clip_norm=None, **fields)


def tree(seed, specs=SPECS):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), s.dtype), specs)


def structs(learner, specs=SPECS):
    return jax.eval_shape(learner.init, jax.tree.map(lambda s: s.struct(), specs))


@every_optimizer
def test_it_converges_on_a_quadratic(name):
    steps = 300
    learner = config(name, rate=WarmupLinear.Config(peak=0.1), total_steps=steps)
    learner.optimizer.weight_decay = 0.0
    if name == "ademamix":
        learner.optimizer.b3 = 0.99  # a mean over 10000 steps does not fit into 300
    learner = learner.instantiate(specs=SPECS)
    goal = jax.tree.map(lambda x: x + 1, tree(1))

    def loss(params):
        errors = jax.tree.map(lambda p, g: jnp.sum((p - g) ** 2), params, goal)
        return sum(jax.tree.leaves(errors))

    @jax.jit
    def trained(params):
        def one(step, carry):
            return learner.update(jax.grad(loss)(carry[0]), carry[1], carry[0], step)[:2]

        params, state = jax.lax.fori_loop(0, steps, one, (params, learner.init(params)))
        return learner.evaluation_params(params, state)

    assert loss(trained(tree(0))) < 0.01 * loss(tree(0))


@every_optimizer
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_and_state_keep_their_dtypes(name, dtype):
    specs = with_dtype(SPECS, dtype)
    learner = config(name).instantiate(specs=specs)
    params = jax.tree.map(lambda s: s.struct(), specs)
    state = structs(learner, specs)
    made = jax.eval_shape(learner.update, params, state, params, jnp.int32(0))
    assert jax.tree.map(lambda x: x.dtype, (made.params, made.opt_state)) == jax.tree.map(
        lambda x: x.dtype, (params, state)
    )


# State.

STATED = {  # numbers per parameter of a stack of matrices; docs/learners.md states the same
    "adafactor": (256 + 128) / (256 * 128),
    "adamw": 2,
    "adastar": 2,
    "ademamix": 3,
    "adopt": 2,
    "decoupled_adamw": 2,
    "lamb": 2,
    "lion": 1,
    "muon": 1,
    "schedule_free_adamw": 2,
    "sgd": 1,
}


@every_optimizer
def test_memory_is_as_stated(name):
    specs = {"weight": ParameterSpec((256, 128), ("embed", "mlp"), ones).stacked(2, "layers")}
    state = structs(config(name).instantiate(specs=specs), specs)
    numbers = sum(x.size for x in jax.tree.leaves(state))
    assert numbers / (2 * 256 * 128) == pytest.approx(STATED[name], abs=2e-4)  # and a few counts


@every_optimizer
def test_state_axes_name_the_dimensions_that_the_state_has(name):
    learner = config(name).instantiate(specs=SPECS)

    def named(leaf, axes):
        sizes = [SIZES.get(axis, size) for axis, size in zip(axes, leaf.shape, strict=True)]
        assert tuple(sizes) == leaf.shape

    jax.tree.map(named, structs(learner), learner.state_axes())


@every_optimizer
def test_state_shaped_like_a_parameter_has_its_axes(name):
    learner = config(name).instantiate(specs=SPECS)
    axes_of = {s.shape: s.axes for s in flatten_paths(SPECS).values()}

    def follows(leaf, axes):
        assert leaf.shape not in axes_of or axes == axes_of[leaf.shape]
        return leaf.shape in axes_of

    followed = jax.tree.map(follows, structs(learner), learner.state_axes())
    assert any(jax.tree.leaves(followed))


@every_optimizer
def test_frozen_parameters_have_no_state(name):
    frozen = {"ice": ParameterGroup(path="(table|stack)/.*", frozen=True)}
    rest = {key: SPECS[key] for key in ("norm", "head")}
    learner = config(name, groups=frozen).instantiate(specs=SPECS)
    alone = config(name).instantiate(specs=rest)
    assert structs(learner) == structs(alone, rest)
    assert learner.state_axes() == alone.state_axes()


# Steps.


@every_optimizer
def test_a_stack_of_layers_is_trained_as_separate_layers_are(name):
    apart = {f"layer{i}": {"weight": WEIGHT, "scale": SPECS["norm"]["scale"]} for i in range(3)}
    stacked = {"stack": SPECS["stack"]}

    def gradients(seed):
        """Of other sizes in each layer, so that one norm or mean over the stack would show."""
        sizes = np.asarray([1, 10, 100], np.float32)
        return jax.tree.map(
            lambda g: g * sizes.reshape(3, *[1] * (g.ndim - 1)), tree(seed, stacked)["stack"]
        )

    def trained(specs, arranged):
        learner = config(name).instantiate(specs=specs)
        params = arranged(tree(0, stacked)["stack"])
        state, update = learner.init(params), jax.jit(learner.update)
        for step in range(5):
            params, state, _ = update(arranged(gradients(step + 1)), state, params, step)
        return params

    together = trained(stacked, lambda leaves: {"stack": leaves})["stack"]
    split = trained(
        apart, lambda leaves: {f"layer{i}": {k: x[i] for k, x in leaves.items()} for i in range(3)}
    )
    for key in ("weight", "scale"):
        expected = [split[f"layer{i}"][key] for i in range(3)]
        # Only the order of additions may differ; Muon multiplies matrices 15 times in a row.
        np.testing.assert_allclose(together[key], expected, rtol=1e-5, atol=1e-6)


class Regression(Model):
    """Predicts targets from inputs through two matrices; a row counts as often as its weight."""

    def own_parameters(self):
        return {"first": WEIGHT, "second": spec("mlp", "embed")}

    def forward(self, batch):
        got = jnp.tanh(batch["inputs"] @ self.param("first")) @ self.param("second")
        errors = jnp.mean((got - batch["targets"]) ** 2, axis=-1)
        return Loss(jnp.sum(batch["target_weights"] * errors), self.target_weight(batch))


@every_optimizer
def test_micro_batches_give_the_updates_of_one_batch(name):
    rng = np.random.default_rng(0)
    shapes = {"inputs": (8, 6), "targets": (8, 6), "target_weights": (8,)}
    batches = [
        {key: np.float32(np.abs(rng.standard_normal(s))) for key, s in shapes.items()}
        for _ in range(3)
    ]
    model = Regression.default_config().instantiate(name="model")
    learner = config(name).instantiate(specs=model.parameter_specs())
    start = initial_state(model, learner, 0)
    start.params = tree(0, model.parameter_specs())
    ends = []
    for accumulation in (1, 4):
        state, step = start, jax.jit(make_train_step(model, learner, accumulation=accumulation))
        for batch in batches:
            state, _ = step(state, batch)
        ends.append(state.params)
    for one, four in zip(*map(jax.tree.leaves, ends), strict=True):
        # Gradients differ in their last bits; a rate of 1e-2 over 3 steps hardly shows it.
        np.testing.assert_allclose(four, one, rtol=1e-5, atol=1e-6)
