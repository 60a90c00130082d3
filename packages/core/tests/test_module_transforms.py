"""Transformations of layers: the same numbers under each, and side outputs that survive."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, PartitionSpec

from axlearn_core.config import REQUIRED
from axlearn_core.module import (
    FanIn,
    Layer,
    ParameterSpec,
    capture,
    capture_with_state,
    current_context,
    emit,
    functional,
    parameter_count,
    remat,
    scan_layers,
    stacked_initialize,
    stacked_specs,
    vmap_layers,
)

KEY = jax.random.key(7)
X = jax.random.normal(jax.random.key(1), (2, 4))
COUNT = 3


class Block(Layer):
    """A nonlinear layer with noise, a named activation, and side outputs of all kinds."""

    def own_parameters(self):
        fan_in = FanIn.default_config().instantiate()
        return {"weight": ParameterSpec((4, 4), ("embed", "mlp"), fan_in)}

    def forward(self, x):
        hidden = checkpoint_name(x @ self.param("weight"), "hidden")
        y = checkpoint_name(jnp.sin(hidden), "out")
        y = y + 0.1 * jax.random.normal(self.prng_key(), y.shape)
        self.add_summary("mean", y.mean())
        self.add_state_update("seen", y.sum())
        self.add_module_output("y", y)
        self.add_loss("square", y**2)
        return y

    def draw(self):
        return jax.random.normal(self.prng_key())


class Parent(Layer):
    """One block, called as the config says."""

    class Config(Layer.Config):
        how: str = "plain"

    def __init__(self, config, **extra):
        super().__init__(config, **extra)
        self.block = self.add_child("block", Block.default_config())
        self.rematerialised = remat(self.block.forward, save="out")

    def forward(self, x):
        return getattr(self, self.config.how)(x)

    def plain(self, x):
        return self.block.forward(x)

    def remat(self, x):
        return self.rematerialised(x)

    def remat_saving_nothing(self, x):
        return remat(self.block.forward)(x)

    def captured_checkpoint(self, x):
        y, side = jax.checkpoint(capture(self.block.forward))(x)
        emit(side)
        return y

    def captured_jit(self, x):
        y, side = jax.jit(capture(self.block.forward))(x)
        emit(side)
        return y

    def captured_cond(self, x):
        y, side = jax.lax.cond(True, capture(self.block.forward), capture(self.block.forward), x)
        emit(side)
        return y

    def custom_vjp(self, x):
        call = current_context()
        block = capture_with_state(self.block.forward)
        run = jax.custom_vjp(block)
        run.defvjp(
            lambda *args: jax.vjp(block, *args),
            lambda pullback, cotangents: pullback(cotangents),
        )
        y, side = run(call.state, call.random_key(), x)
        emit(side)
        return y

    def shard_map(self, x):
        call = current_context()
        mesh = Mesh(np.array(jax.devices()[:2]), ("model",))
        whole = PartitionSpec()
        block = jax.shard_map(
            capture_with_state(self.block.forward),
            mesh=mesh,
            in_specs=(whole, whole, whole),
            out_specs=whole,
        )
        y, side = block(call.state, call.random_key(), x)
        emit(side)
        return y


WAYS = ["remat", "remat_saving_nothing", "captured_checkpoint", "captured_jit", "captured_cond",
        "custom_vjp", "shard_map"]  # fmt: skip


def parent(how="plain"):
    return Parent.default_config().set(how=how).instantiate()


STATE = parent().initialize(KEY)


def loss(module, key=KEY):
    def run(state):
        y, outputs = functional(module, state=state, prng_key=key, inputs=(X,), is_training=True)
        return (y**2).sum(), outputs

    return run


def assert_same(got, expected):
    """The same operations compiled together or apart: float32 rounding."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), got, expected)


EXPECTED, EXPECTED_GRADS = jax.value_and_grad(loss(parent()), has_aux=True)(STATE)


@pytest.mark.parametrize("how", WAYS)
def test_result_and_side_outputs_are_those_of_a_plain_call(how):
    assert_same(loss(parent(how))(STATE), EXPECTED)


@pytest.mark.parametrize("how", WAYS)
def test_gradient_is_that_of_a_plain_call(how):
    got = jax.value_and_grad(loss(parent(how)), has_aux=True)(STATE)
    assert_same(got, (EXPECTED, EXPECTED_GRADS))


@pytest.mark.parametrize("how", ["plain", *WAYS])
def test_the_gradient_of_a_compiled_loss_is_that_of_a_plain_call(how):
    got = jax.jit(jax.value_and_grad(jax.jit(loss(parent(how))), has_aux=True))(STATE)
    assert_same(got, (EXPECTED, EXPECTED_GRADS))


@pytest.mark.parametrize("how", ["plain", *WAYS])
def test_nothing_leaks_out_of_a_trace(how):
    with jax.checking_leaks():
        jax.jit(loss(parent(how)))(STATE)


@pytest.mark.parametrize("how", ["plain", "remat", "captured_checkpoint", "custom_vjp"])
def test_vmap_over_states_equals_a_loop(how):
    states = [parent().initialize(jax.random.key(seed)) for seed in range(3)]
    got = jax.vmap(loss(parent(how)))(jax.tree.map(lambda *x: jnp.stack(x), *states))
    expected = [loss(parent())(state) for state in states]
    assert_same(got, jax.tree.map(lambda *x: jnp.stack(x), *expected))


def test_a_remat_function_follows_the_state_of_each_call():
    module = parent("remat")
    other = parent().initialize(jax.random.key(1))
    loss(module)(STATE)
    assert_same(loss(module)(other), loss(parent())(other))


class Twice(Parent):
    """Calls the block twice; it has no side outputs, which would collide."""

    def __init__(self, config, **extra):
        super().__init__(config, **extra)
        self.noise = self.add_child("noise", Noise.default_config())

    def forward(self, x):
        return self._wrapped()(x), self._wrapped()(x), self.noise.forward(x)

    def _wrapped(self):
        return remat(self.noise.forward) if self.config.how == "remat" else self.noise.forward


class Noise(Layer):
    """Random numbers of the shape of its input."""

    def forward(self, x):
        return jax.random.normal(self.prng_key(), x.shape)


def twice(how):
    module = Twice.default_config().set(how=how).instantiate()
    return functional(module, state={}, prng_key=KEY, inputs=(X,))[0]


def test_a_second_remat_call_draws_other_numbers():
    first, second, _ = twice("remat")
    assert (first != second).all()


def test_a_plain_call_after_remat_calls_draws_other_numbers():
    _, second, third = twice("remat")
    assert (second != third).all()


def test_repeated_remat_calls_draw_the_numbers_of_plain_calls():
    assert_same(twice("remat"), twice("plain"))


def test_a_captured_function_that_runs_in_another_call_is_refused():
    class Careless(Layer):
        def __init__(self, config, **extra):
            super().__init__(config, **extra)
            self.child = self.add_child("child", Runner.default_config())

        def forward(self, x):
            return self.child.forward(capture(lambda x: x), x)

    class Runner(Layer):
        def forward(self, function, x):
            return function(x)

    module = Careless.default_config().instantiate()
    with pytest.raises(RuntimeError, match="capture where the function is used"):
        functional(module, state={}, prng_key=None, inputs=(X,))


# Rematerialisation by name.


def count_in_gradient(primitive, **names):
    """Counts a primitive's occurrences in the forward and backward pass of a remat block."""

    class Remat(Parent):
        def forward(self, x):
            return remat(self.block.forward, **names)(x)

    module = Remat.default_config().instantiate()
    text = str(jax.make_jaxpr(jax.grad(lambda state: loss(module)(state)[0]))(STATE))
    return len(re.findall(rf"\b{primitive}\b", text))


def test_saving_nothing_recomputes_the_matmul():
    # Forward, recomputed, gradient of the weight; the input has no gradient here.
    assert count_in_gradient("dot_general") == 3


def test_saving_the_named_matmul_does_not_recompute_it():
    assert count_in_gradient("dot_general", save="hidden") == 2


def test_saving_recomputes_what_is_not_named():
    assert count_in_gradient("dot_general", save="out") == 3


def test_names_are_regular_expressions():
    assert count_in_gradient("dot_general", save="hid.*|out") == 2


def test_a_name_must_match_as_a_whole():
    assert count_in_gradient("dot_general", save="hid") == 3


def test_offloaded_activations_are_not_recomputed():
    assert count_in_gradient("dot_general", offload="hidden") == 2


def test_offloading_moves_activations_to_host_memory():
    class Offload(Parent):
        def forward(self, x):
            return remat(self.block.forward, offload="hidden")(x)

    module = Offload.default_config().instantiate()
    got = jax.jit(jax.value_and_grad(loss(module), has_aux=True))(STATE)
    assert_same(got, (EXPECTED, EXPECTED_GRADS))


# Depth.


class Stack(Layer):
    """Several blocks with stacked parameters."""

    class Config(Layer.Config):
        how: str = REQUIRED
        remat: bool = False

    def __init__(self, config, **extra):
        super().__init__(config, **extra)
        self.block = self.add_child("block", Block.default_config())

    def parameter_specs(self):
        return {"block": stacked_specs(self.block, COUNT)}

    def initialize(self, key):
        return {"block": stacked_initialize(self.block, COUNT, key)}

    def forward(self, x):
        return getattr(self, self.config.how)(x)

    def scan(self, x):
        def body(x, shift):
            y = remat(self.block.forward)(x) if self.config.remat else self.block.forward(x)
            return y + shift, y.mean()

        return scan_layers(self.block, body, x, jnp.arange(COUNT) * 0.1, count=COUNT)

    def vmap(self, x):
        return vmap_layers(self.block, self.block.forward, jnp.stack([x] * COUNT), count=COUNT)

    def scan_twice(self, x):
        def body(carry, _):
            return carry, self.block.draw()

        return [scan_layers(self.block, body, None, count=COUNT)[1] for _ in range(2)]


def stack(how="scan", **fields):
    return Stack.default_config().set(how=how, **fields).instantiate()


STACKED = stack().initialize(KEY)


def run_stack(state=STACKED, **fields):
    return functional(stack(**fields), state=state, prng_key=KEY, inputs=(X,))


def unrolled(noiseless_state):
    """The stack by hand, without noise."""
    x = X
    for layer in range(COUNT):
        x = jnp.sin(x @ noiseless_state["block"]["weight"][layer]) + 0.1 * layer
    return x


def test_stacked_specs_have_the_layer_axis_first():
    spec = stack().parameter_specs()["block"]["weight"]
    assert (spec.shape, spec.axes) == ((COUNT, 4, 4), ("layers", "embed", "mlp"))


def test_stacked_parameters_are_as_declared():
    shapes = jax.tree.map(lambda spec: spec.shape, stack().parameter_specs())
    assert jax.tree.map(jnp.shape, STACKED) == shapes


def test_parameter_count_counts_all_copies():
    assert parameter_count(stack().parameter_specs()) == COUNT * 16


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_copys_initial_values_do_not_depend_on_how_many_there_are(impl):
    block, key = Block.default_config().instantiate(), jax.random.key(0, impl=impl)
    two, three = (stacked_initialize(block, count, key)["weight"] for count in (2, 3))
    np.testing.assert_array_equal(two, three[:2])


def test_copies_start_with_different_values():
    weight = STACKED["block"]["weight"]
    assert (weight[0] != weight[1]).all()


def test_scan_equals_a_loop_by_hand(monkeypatch):
    monkeypatch.setattr(jax.random, "normal", lambda key, shape: jnp.zeros(shape))
    (carry, _), _ = run_stack()
    assert_same(carry, unrolled(STACKED))


def test_scan_hands_out_the_ys_of_each_layer():
    (_, ys), outputs = run_stack()
    assert_same(ys, outputs.summaries["block"]["mean"])


def test_scan_keeps_side_outputs_per_layer():
    _, outputs = run_stack()
    assert outputs.summaries["block"]["mean"].shape == (COUNT,)
    assert outputs.state_updates["block"]["seen"].shape == (COUNT,)
    assert outputs.module_outputs["block"]["y"].shape == (COUNT, *X.shape)


def test_layers_of_a_scan_draw_different_numbers():
    zeros = jax.tree.map(jnp.zeros_like, STACKED)
    _, outputs = run_stack(zeros)
    noise = outputs.module_outputs["block"]["y"]
    assert (noise[0] != noise[1]).all()


def test_scan_with_remat_equals_scan():
    assert_same(run_stack(remat=True), run_stack())


def test_compiled_scan_equals_scan():
    assert_same(jax.jit(run_stack)(STACKED), run_stack())


def test_gradient_through_scan_with_remat_equals_that_without():
    def total(state, **fields):
        return run_stack(state, **fields)[0][0].sum()

    assert_same(jax.grad(lambda s: total(s, remat=True))(STACKED), jax.grad(total)(STACKED))


def test_nothing_leaks_out_of_a_scan():
    with jax.checking_leaks():
        jax.jit(lambda state: run_stack(state, remat=True))(STACKED)


def test_program_size_does_not_grow_with_depth():
    def size(count):
        class Deep(Stack):
            def forward(self, x):
                return scan_layers(
                    self.block, lambda x, _: (self.block.forward(x), None), x, count=count
                )

        module = Deep.default_config().set(how="scan").instantiate()
        state = jax.eval_shape(lambda: {"block": stacked_initialize(module.block, count, KEY)})
        return str(
            jax.make_jaxpr(
                lambda state: functional(module, state=state, prng_key=KEY, inputs=(X,))
            )(state)
        ).count("\n")

    assert size(32) == size(4)


def test_vmap_layers_keeps_results_and_side_outputs_per_copy():
    y, outputs = run_stack(how="vmap")
    assert_same(outputs.module_outputs["block"]["y"], y)
    assert outputs.summaries["block"]["mean"].shape == (COUNT,)


def test_copies_of_vmap_layers_draw_different_numbers():
    y, _ = run_stack(jax.tree.map(jnp.zeros_like, STACKED), how="vmap")
    assert (y[0] != y[1]).all()


def test_vmap_layers_draws_the_numbers_of_scan_layers():
    zeros = jax.tree.map(jnp.zeros_like, STACKED)
    scanned, mapped = (run_stack(zeros, how=how)[1] for how in ("scan", "vmap"))
    assert_same(mapped.module_outputs, scanned.module_outputs)


def test_a_second_scan_over_the_same_layers_draws_other_numbers():
    (first, second), _ = run_stack(how="scan_twice")
    assert (first != second).all()


class Shifted(Layer):
    """Adds what is provided from above."""

    def forward(self, x):
        return x + self.provided("shift")


class ShiftedParent(Layer):
    """One layer below several transformations."""

    def __init__(self, config, **extra):
        super().__init__(config, **extra)
        self.shifted = self.add_child("shifted", Shifted.default_config())

    def forward(self, x, shift):
        def body(x, _=None):
            return remat(self.shifted.forward)(x), None

        with self.provide("shift", shift):
            scanned, _ = scan_layers(self.shifted, body, x, count=COUNT)
            mapped = vmap_layers(self.shifted, lambda _: self.shifted.forward(x), count=COUNT)
        return scanned, mapped

    def left_behind(self, x, shift):
        with self.provide("shift", shift):
            return capture_with_state(self.shifted.forward)({}, None, x)[0]

    def provided_again(self, x, shift):
        def function(x, shift):
            with self.provide("shift", shift):
                return self.shifted.forward(x)

        with self.provide("shift", shift):
            return capture_with_state(function)({}, None, x, shift)[0]


def test_traced_values_are_provided_through_jit_grad_scan_vmap_and_remat():
    parent = ShiftedParent.default_config().instantiate()

    def loss(x, shift):
        scanned, mapped = functional(parent, state={}, prng_key=None, inputs=(x, shift))[0]
        return scanned.sum(), (scanned, mapped)

    shifts = jnp.arange(2.0)
    run = jax.jit(jax.vmap(jax.grad(loss, argnums=1, has_aux=True), in_axes=(None, 0)))
    gradients, (scanned, mapped) = run(X, shifts)
    np.testing.assert_array_equal(gradients, [COUNT * X.size] * 2)
    np.testing.assert_allclose(scanned, X + COUNT * shifts[:, None, None], atol=1e-6)
    np.testing.assert_array_equal(mapped, (X + shifts[:, None, None])[:, None].repeat(COUNT, 1))


def test_a_function_that_takes_no_arrays_along_says_what_to_do_with_provided_ones():
    parent = ShiftedParent.default_config().instantiate()
    with pytest.raises(RuntimeError, match=r"call self.provide\('shift', value\) inside"):
        functional(parent, state={}, prng_key=None, inputs=(X, 1.0), method="left_behind")
    y, _ = functional(parent, state={}, prng_key=None, inputs=(X, 1.0), method="provided_again")
    np.testing.assert_array_equal(y, X + 1)
