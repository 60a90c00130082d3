"""The training step as a function: what one call does to a state, and what it must not do."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.module import Normal, ParameterSpec, ones, zeros
from axlearn_core.testing.tiny import BigramModel, GradientDescent
from axlearn_core.training.learner import LearnerUpdate
from axlearn_core.training.model import Loss
from axlearn_core.training.state import initial_state, split_trainable
from axlearn_core.training.step import cast_floats, make_eval_step, make_train_step

ROWS, COLUMNS, VOCAB = 8, 4, 5
RANDOM = Normal.default_config().set(stddev=1.0).instantiate()


class Probe(BigramModel):
    """A bigram model that counts its calls, and reports its random key and its table's dtype."""

    class Config(BigramModel.Config):
        random: bool = False

    def own_parameters(self):
        calls = ParameterSpec((), (), zeros, trainable=False)
        table = dataclasses.replace(super().own_parameters()["table"], initializer=RANDOM)
        return {"table": table, "calls": calls}

    def forward(self, batch):
        loss = super().forward(batch)
        self.add_state_update("calls", self.param("calls") + 1)
        self.add_summary("bits", jnp.float32(jnp.finfo(self.param("table").dtype).bits))
        if self.config.random and self.is_training:
            draw = jax.random.uniform(self.prng_key())
            self.add_summary("draw", draw)
            loss = Loss(loss.total + draw * loss.weight, loss.weight)
        return Loss(loss.total.astype(jnp.float32), loss.weight)


class Stray(BigramModel):
    def forward(self, batch):
        self.add_state_update("nobody", jnp.zeros(()))
        return super().forward(batch)


@functools.cache
def build(model=Probe, **fields):
    """A model, a learner and a state; nothing changes them, so tests share them."""
    model = model.default_config().set(vocab_size=VOCAB, **fields).instantiate(name="model")
    specs = model.parameter_specs()
    learner = GradientDescent.default_config().instantiate(specs=split_trainable(specs, specs)[0])
    return model, learner, initial_state(model, learner, 0)


@functools.cache
def compiled(model, learner, **options):
    return jax.jit(make_train_step(model, learner, **options))


def batch(seed=0, weights=None):
    random = np.random.default_rng(seed)
    ids = random.integers(VOCAB, size=(ROWS, COLUMNS + 1)).astype(np.int32)
    if weights is None:
        weights = np.ones((ROWS, COLUMNS), np.float32)
    return {"input_ids": ids[:, :-1], "target_ids": ids[:, 1:], "target_weights": weights}


def bits(tree):
    return [(leaf.dtype, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


UNEVEN = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 7 < 3 * (np.arange(ROWS)[:, None] % 3)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_micro_batches_with_uneven_weights_give_the_update_of_one_batch(count):
    model, learner, state = build()
    data = batch(weights=UNEVEN.astype(np.float32))
    whole, whole_metrics = compiled(model, learner)(state, data)
    parts, parts_metrics = compiled(model, learner, accumulation=count)(state, data)
    # Only the order of at most 32 additions differs: some units in the last place of float32, times
    # the learning rate of 10 for parameters.
    np.testing.assert_allclose(
        parts.params["table"], whole.params["table"], rtol=2e-6, atol=2e-6 * 10.0
    )
    np.testing.assert_allclose(parts_metrics["loss"], whole_metrics["loss"], rtol=2e-6)


def test_the_loss_is_the_mean_over_target_tokens():
    model, learner, state = build()
    data = batch(weights=UNEVEN.astype(np.float32))
    _, metrics = compiled(model, learner)(state, data)
    table = np.asarray(state.params["table"], np.float64)
    scores = table - np.log(np.exp(table).sum(-1, keepdims=True))
    losses = -scores[data["input_ids"], data["target_ids"]]
    assert float(metrics["loss"]) == pytest.approx(losses[UNEVEN].mean(), rel=1e-6)


def test_ignored_targets_have_no_gradient():
    model, learner, state = build()
    data = batch(weights=np.zeros((ROWS, COLUMNS), np.float32))
    after, metrics = compiled(model, learner)(state, data)
    assert float(metrics["loss"]) == 0.0
    assert bits(after.params) == bits(state.params)


@pytest.mark.parametrize("count", [1, 4])
def test_state_updates_pass_from_one_micro_batch_to_the_next(count):
    model, learner, state = build()
    after, _ = compiled(model, learner, accumulation=count)(state, batch())
    assert float(after.module_state["calls"]) == count


def test_a_state_update_of_no_declared_parameter_is_an_error():
    model, learner, state = build(Stray)
    with pytest.raises(ValueError, match=r"nobody.*trainable=False"):
        compiled(model, learner)(state, batch())


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_changes_no_bit_and_halts(value, count):
    model, learner, state = build()
    weights = np.ones((ROWS, COLUMNS), np.float32)
    weights[3, 2] = value
    step = compiled(model, learner, accumulation=count)
    after, metrics = step(state, batch(weights=weights))
    assert not metrics["good"]
    assert bool(after.halted)
    assert bits(dataclasses.replace(after, halted=state.halted)) == bits(state)


def test_a_gradient_that_is_not_finite_changes_no_bit_and_halts():
    class Steep(BigramModel):
        def forward(self, batch):
            loss = super().forward(batch)  # sqrt has no derivative at 0
            return Loss(loss.total + jnp.sqrt(0 * self.param("table")).sum(), loss.weight)

    model, learner, state = build(Steep)
    after, metrics = compiled(model, learner)(state, batch())
    assert np.isfinite(metrics["loss"])
    assert not metrics["good"]
    assert bits(dataclasses.replace(after, halted=state.halted)) == bits(state)


def test_nothing_changes_a_halted_state():
    model, learner, state = build()
    halted = dataclasses.replace(state, halted=jnp.ones((), jnp.bool_))
    step = compiled(model, learner)
    after = halted
    for seed in range(3):
        after, _ = step(after, batch(seed))
    assert bits(after) == bits(halted)


def test_the_model_computes_in_compute_dtype_and_learns_in_float32():
    model, learner, state = build()
    after, metrics = compiled(model, learner, compute_dtype="bfloat16")(state, batch())
    assert float(metrics["bits"]) == 16
    assert after.params["table"].dtype == jnp.float32


def test_without_compute_dtype_the_model_computes_as_parameters_are_stored():
    model, learner, state = build()
    _, metrics = compiled(model, learner)(state, batch())
    assert float(metrics["bits"]) == 32


class Watched(GradientDescent):
    """Reports of which dtype its gradients' values are, and in what it gets them."""

    def update(self, grads, opt_state, params, step):
        assert grads["table"].dtype == jnp.float32
        update = super().update(grads, opt_state, params, step)
        return update._replace(metrics=update.metrics | {"gradient": grads["table"]})


def gradient(**options):
    model, _, state = build()
    specs = model.parameter_specs()
    learner = Watched.default_config().instantiate(specs=split_trainable(specs, specs)[0])
    # Not as one program: the compiler may leave out a rounding.
    with jax.disable_jit():
        _, metrics = make_train_step(model, learner, **options)(state, batch())
    return np.asarray(metrics["gradient"])


def bfloat16(x):
    return x.astype(jnp.bfloat16).astype(np.float32)


def test_gradients_are_kept_in_gradient_dtype():
    exact = gradient()
    assert (bfloat16(exact) != exact).any()
    np.testing.assert_array_equal(gradient(gradient_dtype="bfloat16"), bfloat16(exact))


def test_gradients_of_micro_batches_are_summed_in_accumulation_dtype():
    parts = {"accumulation": 4}
    assert (bfloat16(gradient(**parts)) != gradient(**parts)).any()
    rounded = gradient(**parts, accumulation_dtype="bfloat16")
    np.testing.assert_array_equal(rounded, bfloat16(rounded))
    summed = gradient(**parts, gradient_dtype="bfloat16")
    assert (bfloat16(summed) != summed).any()  # each is rounded, their sum is not


def test_casting_leaves_integers_alone():
    spec = ParameterSpec((2,), (None,), ones)
    tree = {"a": jnp.ones(2), "b": {"c": jnp.ones(2, jnp.int32)}}
    cast = cast_floats(tree, {"a": spec, "b": {"c": spec}}, "bfloat16")
    assert cast["a"].dtype == jnp.bfloat16
    assert cast["b"]["c"].dtype == jnp.int32


def test_casting_leaves_alone_what_keeps_its_precision():
    spec = ParameterSpec((2,), (None,), ones, keeps_precision=True)
    assert cast_floats({"a": jnp.ones(2)}, {"a": spec}, "bfloat16")["a"].dtype == jnp.float32


def draws(step, state, count):
    seen = []
    for _ in range(count):
        state, metrics = step(state, batch())
        seen.append(float(metrics["draw"]))
    return seen, state


def test_every_step_draws_other_random_numbers():
    model, learner, state = build(random=True)
    seen, _ = draws(compiled(model, learner), state, 4)
    assert len(set(seen)) == 4


def test_the_random_numbers_of_a_step_depend_on_its_number_only():
    model, learner, state = build(random=True)
    step = compiled(model, learner)
    seen, _ = draws(step, state, 4)
    jumped = dataclasses.replace(state, step=jnp.int32(3))
    assert draws(step, jumped, 1)[0] == seen[3:]


def test_every_micro_batch_draws_other_random_numbers():
    model, learner, state = build(random=True)
    one = draws(compiled(model, learner), state, 1)[0]
    mean_of_four = draws(compiled(model, learner, accumulation=4), state, 1)[0]
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), 0)
    expected = [jax.random.uniform(jax.random.fold_in(key, i)) for i in range(4)]
    assert one == [float(jax.random.uniform(key))]
    np.testing.assert_allclose(mean_of_four, np.mean(expected), rtol=1e-6)


def test_evaluation_draws_nothing_and_changes_nothing():
    model, learner, state = build(random=True)
    plain, _, _ = build()
    before = bits(state)
    random, fixed = (make_eval_step(m, learner)(state, batch()) for m in (model, plain))
    assert bits(random) == bits(fixed)
    assert bits(state) == before


def test_the_evaluation_loss_is_a_sum_and_its_weight():
    model, learner, state = build()
    data = batch(weights=UNEVEN.astype(np.float32))
    loss = make_eval_step(model, learner)(state, data)
    assert float(loss.weight) == UNEVEN.sum()


def test_evaluation_takes_the_parameters_that_the_learner_names():
    model, learner, state = build()

    class Averaging(type(learner)):
        def evaluation_params(self, params, opt_state):
            return jax.tree.map(jnp.zeros_like, params)

    averaging = Averaging(type(learner).default_config(), specs=learner.specs)
    zeros = dataclasses.replace(state, params=jax.tree.map(jnp.zeros_like, state.params))
    expected = make_eval_step(model, learner)(zeros, batch())
    assert bits(make_eval_step(model, averaging)(state, batch())) == bits(expected)


def skipping(model, learner, state):
    """A step whose learner says that it skipped it, because of a gradient that is not finite."""

    class Skipping(type(learner)):
        def update(self, grads, opt_state, params, step):
            metrics = {"gradient_norm": jnp.float32(jnp.nan), "skipped": jnp.float32(1)}
            return LearnerUpdate(params, opt_state, metrics)

    skips = Skipping(type(learner).default_config(), specs=learner.specs)
    return compiled(model, skips)(state, batch())


def test_a_step_that_the_learner_skipped_does_not_halt():
    after, metrics = skipping(*build())
    assert not after.halted
    assert metrics["good"]
    assert after.step == 1


def test_a_step_that_the_learner_skipped_keeps_parameters_and_module_state():
    model, learner, state = build()
    after, _ = skipping(model, learner, state)
    assert bits(after.params) == bits(state.params)
    assert bits(after.module_state) == bits(state.module_state)
