"""A pipeline computes what `Repeat` computes, in another order."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import BuildError, ConfigError, merged, replace
from axlearn_core.module import (
    ParameterSpec,
    flatten_paths,
    fold_in_name,
    functional,
    map_specs,
    no_context,
    zeros,
)
from axlearn_layers import (
    Attention,
    CapacityDispatch,
    CausalLM,
    Circular,
    Dropout,
    Linear,
    MixtureOfExperts,
    MultiTokenLM,
    OneForwardOneBackward,
    Pipeline,
    Repeat,
    SequenceInfo,
    SequenceLayer,
    SharedBias,
    SigmoidRouter,
    T5Bias,
)

DIM, LAYERS, ROWS, SEQ = 4, 8, 8, 3
WIDE = 16
KEY = jax.random.key(0)
# Float32 sums in another order, relative to the largest number of an array.
RTOL = 1e-5

SCHEDULES = {  # stages, microbatches, rounds
    "one stage": (1, 2, 1),
    "as many microbatches as stages": (4, 4, 1),
    "fewer": (4, 2, 1),
    "more": (2, 8, 1),
    "two rounds": (2, 4, 2),
    "rounds of single layers": (4, 4, 2),
}


class Mix(SequenceLayer):
    """x + dropout(tanh((x + position) w)), and side outputs of every kind."""

    class Config(SequenceLayer.Config):
        dropout: Dropout.Config = Dropout.default_config()

    def __init__(self, config, **place):
        super().__init__(config, **place)
        self.dropout = self.add_child("dropout", self.config.dropout)

    @no_context
    def own_parameters(self):
        dim = self.config.input_dim
        return {
            "weight": ParameterSpec((dim, dim), ("embed", None), zeros),
            "seen": ParameterSpec((), (), zeros, trainable=False),
            "calls": ParameterSpec((), (), zeros, dtype="int32", trainable=False),
        }

    def forward(self, x, info):
        moved = x if info.positions is None else x + info.positions[..., None]
        y = jnp.tanh(moved @ self.param("weight"))
        self.add_summary("mean", y.mean())
        self.add_loss("size", jnp.abs(y).sum(axis=-1))
        self.add_module_output("first", y[0])
        self.add_state_update("seen", self.param("seen") + y.mean())
        self.add_state_update("calls", self.param("calls") + 1)
        return x + self.dropout.forward(y)


def repeat(**fields):
    layer = Mix.Config(**fields)
    return Repeat.Config(input_dim=DIM, num_layers=LAYERS, layer=layer)


def swapped(cfg, stages, microbatches, rounds=1):
    """Returns the pipeline in place of a `Repeat`."""
    schedule = Circular.Config(num_repeats=rounds)
    new = Pipeline.default_config().set(
        num_stages=stages, num_microbatches=microbatches, schedule=schedule
    )
    return merged(cfg, new)[0].instantiate()


@cache
def example():
    stack = repeat().instantiate()
    rng = np.random.default_rng(0)

    def draw(spec):
        return jnp.asarray(0.5 * rng.normal(size=spec.shape), spec.dtype)

    x = rng.normal(size=(ROWS, SEQ, DIM)).astype(np.float32)
    info = SequenceInfo(rng.integers(0, 3, (ROWS, SEQ), np.int32))
    return stack, map_specs(draw, stack.parameter_specs()), x, info


def run(layer, state, *inputs, key=None):
    @jax.jit
    def call(state, inputs):
        return functional(layer, state=state, prng_key=key, inputs=inputs, is_training=True)

    return call(state, inputs)


def assert_close(got, expected):
    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=RTOL * np.abs(b).max())

    jax.tree.map(compare, got, expected)


def differentiated(stack, state, x, info):
    weights = np.random.default_rng(1).normal(size=(ROWS, SEQ)).astype(np.float32)

    @jax.jit
    def gradient(weight, x):
        def objective(weight, x):
            own = {"layer": {**state["layer"], "weight": weight}}
            y, side = functional(
                stack, state=own, prng_key=None, inputs=(x, info), is_training=True
            )
            total = jnp.sum(y.sum(axis=-1) * weights)
            return total + jnp.sum(side.losses["layer"]["size"] * weights), (y, side)

        return jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(weight, x)

    return gradient(state["layer"]["weight"], x)


@cache
def expected():
    return differentiated(*example())


@pytest.mark.parametrize("name", SCHEDULES)
def test_it_gives_the_outputs_gradients_and_side_outputs_of_a_loop(name):
    stages, microbatches, rounds = SCHEDULES[name]
    _, state, x, info = example()
    stack = swapped(repeat(), stages, microbatches, rounds)
    (total, (y, side)), (by_weight, by_x) = differentiated(stack, stack.as_staged(state), x, info)
    (loop_total, (loop_y, loop_side)), (loop_by_weight, loop_by_x) = expected()
    assert_close((total, y), (loop_total, loop_y))
    assert_close((stack.as_repeated(by_weight), by_x), (loop_by_weight, loop_by_x))
    assert_close(side.summaries, loop_side.summaries)
    assert_close(side.losses, loop_side.losses)
    # Updates have the places of the parameters. Each microbatch makes one from the same old value.
    assert_close(stack.as_repeated(side.state_updates), loop_side.state_updates)
    outputs = side.module_outputs["layer"]["first"]
    assert outputs.shape == (LAYERS, microbatches, SEQ, DIM)
    assert_close(outputs[:, 0], loop_side.module_outputs["layer"]["first"])  # both of row 0


def test_a_microbatch_draws_what_a_loop_with_its_key_draws():
    _, state, x, _ = example()
    cfg = repeat(dropout=Dropout.Config(rate=0.5))
    stack, loop = swapped(cfg, 2, 4, 2), cfg.instantiate()
    y, _ = run(stack, stack.as_staged(state), x, SequenceInfo(), key=KEY)
    for index in range(4):
        key = jax.random.fold_in(fold_in_name(KEY, "#microbatch"), index)
        alone, _ = run(loop, state, x[index::4], SequenceInfo(), key=key)
        assert_close(y[index::4], alone)


# Parameters.


def test_parameters_are_stages_of_layers():
    specs = swapped(repeat(), 4, 4, 2).parameter_specs()
    weight = specs["layer"]["weight"]
    assert (weight.shape, weight.axes) == (
        (4, 2, DIM, DIM),
        ("stages", "layers", "embed", None),
    )
    assert weight.fan_in_axes == (2,)


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_map_to_a_loop_and_back_changes_nothing(rounds):
    stack = swapped(repeat(), 2, 4, rounds)
    numbers = {"layer": {"number": jnp.arange(LAYERS)}}
    there = stack.as_staged(numbers)
    # Chunk c, of consecutive layers, is on stage c mod 2.
    chunks = np.arange(LAYERS).reshape(rounds, 2, -1)
    np.testing.assert_array_equal(
        there["layer"]["number"], np.swapaxes(chunks, 0, 1).reshape(2, -1)
    )
    assert_close(stack.as_repeated(there), numbers)
    found = [int(there["layer"]["number"][each.indices]) for each in stack.unrolled()]
    assert found == list(range(LAYERS))


def test_a_run_starts_as_with_a_loop():
    cfg = Repeat.Config(input_dim=DIM, num_layers=4, layer=Linearly.default_config())
    stack = swapped(cfg, 2, 2)
    assert_close(stack.as_repeated(stack.initialize(KEY)), cfg.instantiate().initialize(KEY))


# In a model.


def staged_lm(cfg, schedule, stages=2, microbatches=4):
    """Returns a model whose stack is a pipeline, by one replacement."""
    cfg = cfg.clone()
    new = Pipeline.default_config().set(
        num_stages=stages, num_microbatches=microbatches, schedule=schedule
    )
    assert [list(each.dropped) for each in replace(cfg, Repeat, new)] == [[]]
    return cfg.instantiate()


def loss_and_gradients(lm, state, batch, key=KEY):
    @jax.jit
    def run(state):
        def loss(state):
            loss, side = functional(
                lm, state=state, prng_key=key, inputs=(batch,), is_training=True
            )
            return loss.total / loss.weight, side

        return jax.value_and_grad(loss, has_aux=True)(state)

    return run(state)


def test_a_model_of_experts_has_the_loss_and_gradients_of_a_loop_under_1f1b(make):
    cfg = make.llama(head=None)  # tied, so that both ends of the model have gradients for it
    router = SigmoidRouter.default_config().set(
        balance_loss_scale=0.1, z_loss_scale=0.1, bias_rate=0.1
    )
    cfg.stack.layer = MixtureLayer.default_config()
    cfg.stack.layer.mixture.set(num_experts=4, top_k=2, hidden_dim=8, router=router)
    lm, state = make.build(cfg)
    batch = make.batch(batch=4, seq=6)
    batch["target_weights"][0, :4] = 0
    piped = staged_lm(cfg, OneForwardOneBackward.default_config(), microbatches=2)
    staged = {**state, "stack": piped.stack.as_staged(state["stack"])}
    (loss, side), gradients = loss_and_gradients(piped, staged, batch)
    (loop_loss, loop_side), loop_gradients = loss_and_gradients(lm, state, batch)
    gradients["stack"] = piped.stack.as_repeated(gradients["stack"])
    assert_close((loss, gradients), (loop_loss, loop_gradients))
    assert_close(side.summaries["auxiliary_loss"], loop_side.summaries["auxiliary_loss"])
    shapes = [jax.tree.map(jnp.shape, each.summaries) for each in (side, loop_side)]
    assert shapes[0] == shapes[1]
    bias = side.state_updates["stack"]["layer"]["mixture"]["router"]["bias"]
    assert bias.shape == (2, 1, 4)  # stages, layers per stage, experts


class MixtureLayer(SequenceLayer):
    """x + mixture(x)."""

    class Config(SequenceLayer.Config):
        mixture: MixtureOfExperts.Config = MixtureOfExperts.default_config().set(
            dispatch=CapacityDispatch.default_config()
        )

    def __init__(self, config, **place):
        super().__init__(config, **place)
        mixture = self.config.mixture.set(input_dim=self.config.input_dim)
        self.mixture = self.add_child("mixture", mixture)

    def forward(self, x, info):
        return x + self.mixture.forward(x)


@pytest.mark.parametrize("schedule", [Circular, OneForwardOneBackward])
def test_each_row_keeps_its_adapter(make, schedule):
    cfg = make.llama()
    cfg.stack.layer = Shift.default_config()
    lm, state = make.build(cfg)
    batch = make.batch(batch=4, seq=4) | {"adapter_ids": np.int32([0, 2, 1, -1])}
    piped = staged_lm(cfg, schedule.default_config(), microbatches=2)
    got, want = (run(each, state, batch)[0].total for each in (piped, lm))
    np.testing.assert_allclose(got, want, rtol=RTOL)


class Shift(SequenceLayer):
    """sin(x + the number of the row's adapter)."""

    def forward(self, x, info):
        return jnp.sin(x + self.provided("adapter_ids")[:, None, None])


def test_a_bias_that_all_stages_share_has_its_gradient():
    bias = T5Bias.Config(num_heads=2, num_buckets=4, max_distance=4)
    inner = Repeat.Config(num_layers=2, layer=Attention.Config(num_heads=2))
    loop = SharedBias.Config(input_dim=DIM, inner=inner, bias=bias)
    piped = loop.clone()
    replace(piped, Repeat, Pipeline.default_config().set(num_stages=2, num_microbatches=4))
    loop, piped = loop.instantiate(), piped.instantiate()
    state = loop.initialize(KEY)
    staged = {**state, "inner": piped.inner.as_staged(state["inner"])}
    x = example()[2]

    def gradient(stack, state):
        def objective(state):
            inputs = (x, SequenceInfo())
            return (functional(stack, state=state, prng_key=None, inputs=inputs)[0] ** 2).sum()

        return jax.jit(jax.grad(objective))(state)["bias"]

    assert_close(gradient(piped, staged), gradient(loop, state))


def test_it_decodes_a_single_sequence_as_a_loop_does(make):
    lm, state = make.build(make.llama())
    piped = staged_lm(make.llama(), Circular.default_config())
    staged = {**state, "stack": piped.stack.as_staged(state["stack"])}
    ids = make.batch(batch=1, seq=4)["input_ids"]
    logits = [
        make.call(lm, state, ids, lm.init_cache(1, 8), method="extend")[0]
        for lm, state in ((piped, staged), (lm, state))
    ]
    assert_close(*logits)


# Time and memory.


def test_it_says_how_long_stages_are_idle_and_what_they_keep():
    piped, rounds = swapped(repeat(), 4, 8), swapped(repeat(), 4, 8, 2)
    assert (piped.bubble(), rounds.bubble()) == (3 / 11, 3 / 19)
    assert (piped.microbatches_in_flight(), rounds.microbatches_in_flight()) == (11, 19)
    schedule = OneForwardOneBackward.default_config()
    one = repeat_lm(schedule, microbatches=32).stack
    assert (one.bubble(), one.microbatches_in_flight()) == (3 / 35, 7)


def repeat_lm(schedule, microbatches):
    cfg = CausalLM.default_config().set(vocab_size=8, dim=WIDE)
    cfg.stack = Repeat.Config(num_layers=LAYERS, layer=Linearly.default_config())
    return staged_lm(cfg, schedule, stages=4, microbatches=microbatches)


class Linearly(SequenceLayer):
    """tanh(x w)."""

    def __init__(self, config, **place):
        super().__init__(config, **place)
        dim = self.config.input_dim
        self.linear = self.add_child("linear", Linear.Config(input_dim=dim, output_dim=dim))

    def forward(self, x, info):
        return jnp.tanh(self.linear.forward(x))


def temporary_bytes(schedule, microbatches):
    """Returns what the compiled gradient needs, with microbatches of one size."""
    lm = repeat_lm(schedule, microbatches)
    ids = jax.ShapeDtypeStruct((2 * microbatches, 256), jnp.int32)
    weights = jax.ShapeDtypeStruct(ids.shape, jnp.float32)
    batch = {"input_ids": ids, "target_ids": ids, "target_weights": weights}

    def loss(params, batch):
        return functional(lm, state=params, prng_key=None, inputs=(batch,), is_training=True)[
            0
        ].total

    params = map_specs(ParameterSpec.struct, lm.parameter_specs())
    compiled = jax.jit(jax.grad(loss)).lower(params, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_1f1b_needs_no_more_memory_for_more_microbatches_and_gpipe_does():
    few, many = 8, 64
    circular = partial(temporary_bytes, Circular.default_config())
    flush = partial(temporary_bytes, OneForwardOneBackward.default_config())
    # A stage's input of one microbatch, times the stages.
    one = 4 * 2 * 256 * WIDE * 4
    assert circular(many) - circular(few) > (many - few) * one
    # What grows is the batch itself, 12 bytes per token, and a few numbers per microbatch.
    batch = (many - few) * 2 * 256 * 12
    assert flush(many) - flush(few) < 2 * batch < (many - few) * one / 4


# What goes wrong.


def test_stages_of_unequal_depth_are_refused():
    with pytest.raises(BuildError, match=r"num_stages \(=3\) must divide num_layers \(=8\)"):
        swapped(repeat(), 3, 3)
    with pytest.raises(
        BuildError, match=r"\(=4\) times num_repeats \(=4\) must divide num_layers \(=8\)"
    ):
        swapped(repeat(), 4, 4, 4)


def test_microbatches_of_unequal_size_are_refused():
    _, state, x, info = example()
    stack = swapped(repeat(), 2, 3)
    with pytest.raises(
        ConfigError, match=r"root.num_microbatches \(=3\) must divide the rows .* \(=8\)"
    ):
        run(stack, stack.as_staged(state), x, info)


def test_a_model_that_keeps_its_loss_is_refused_1f1b(make):
    cfg = MultiTokenLM.default_config().set(lm=make.llama())
    cfg.depth.layer = make.llama().stack.layer
    lm = staged_lm(cfg, OneForwardOneBackward.default_config())
    state = jax.eval_shape(lm.initialize, KEY)
    with pytest.raises(ConfigError, match=r"lm.stack.schedule \(=OneForwardOneBackward\) needs"):
        jax.eval_shape(
            lambda state: functional(
                lm, state=state, prng_key=None, inputs=(make.batch(),), is_training=True
            ),
            state,
        )


def test_1f1b_evaluates_like_any_other(make):
    lm, state = make.build(make.llama())
    piped = staged_lm(make.llama(), OneForwardOneBackward.default_config())
    staged = {**state, "stack": piped.stack.as_staged(state["stack"])}
    batch = make.batch(batch=4)
    losses = [make.call(lm, state, batch) for lm, state in ((piped, staged), (lm, state))]
    np.testing.assert_allclose(*losses, rtol=RTOL)
    assert set(flatten_paths(staged)) == set(flatten_paths(state))
