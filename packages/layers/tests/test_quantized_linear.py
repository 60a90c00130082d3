"""Projections of FP8 and INT8 products, wherever a linear projection may stand."""

import jax
import numpy as np
import pytest

from axlearn_core.config import apply_overrides, find, replace
from axlearn_core.kernels import recording_choices
from axlearn_core.module import functional
from axlearn_core.parallel import (
    DEFAULT_RULES,
    Placement,
    make_mesh,
    parameter_shardings,
    placing,
)
from axlearn_core.plugins import get_registry
from axlearn_layers import (
    CausalLM,
    FusedQKV,
    GatedFeedForward,
    Linear,
    LoRA,
    QuantizedLinear,
)

# Of the largest result, the error of a sum of 32 products with operands rounded to 3 and to 7 bits.
ERRORS = {"float8": 0.05, "int8": 0.02}
INT8 = QuantizedLinear.default_config().set(format="int8")


def model():
    cfg = CausalLM.default_config().set(vocab_size=16, dim=8)
    cfg.stack.num_layers = 2
    cfg.stack.layer.attention.num_heads = 2
    cfg.stack.layer.feed_forward.hidden_dim = 16
    return cfg


@pytest.mark.parametrize("format", ERRORS)
def test_it_is_near_the_linear_projection_whose_parameters_it_takes(make, rng, format):
    sizes = {"input_dim": 32, "output_dim": (2, 16), "output_axes": (None, "mlp"), "bias": True}
    exact, state = make.build(Linear.default_config().set(**sizes))
    rounded = QuantizedLinear.default_config().set(format=format, **sizes).instantiate()
    x = rng.normal(size=(2, 8, 32)).astype(np.float32)
    want = make.call(exact, state, x)
    error = np.abs(make.call(rounded, state, x) - want).max() / np.abs(want).max()
    assert 1e-4 < error < ERRORS[format]


def test_an_override_puts_it_where_a_path_says():
    cfg = model()
    words = ["**.down=layers/quantized_linear", "**.down.format=int8"]
    apply_overrides(cfg, words, resolve=get_registry().lookup)
    ((path, node),) = find(cfg, QuantizedLinear)
    assert (path, node.format) == ("stack.layer.feed_forward.down", "int8")


def test_replace_puts_it_into_all_blocks_and_an_adapter_around_it(make):
    cfg = model()
    replace(cfg.stack, Linear, INT8)
    assert len(find(cfg, QuantizedLinear)) == 4  # q, k and v at once, output, gate and up, down
    replace(cfg.stack, QuantizedLinear, lambda old: LoRA.default_config().set(inner=old))
    assert {type(node.inner) for _, node in find(cfg, LoRA)} == {QuantizedLinear.Config}
    layer = cfg.instantiate(name="model")
    with recording_choices() as choices:
        ids = np.ones((1, 4), np.int32)
        batch = {"input_ids": ids, "target_ids": ids, "target_weights": np.ones((1, 4))}
        make.call(layer, layer.initialize(jax.random.key(0)), batch)
    assert "quantized_matmul" in {choice.op for choice in choices}


def gradient(layer, state, x, placement=None):
    def loss(state, x):
        y, _ = functional(layer, state=state, prng_key=None, inputs=(x,))
        return (y**2).sum()

    def run():
        return jax.jit(jax.grad(loss))(state, x)

    if placement is None:
        return run()
    with placing(placement):
        return run()


@pytest.fixture
def feed_forward(make, rng):
    cfg = GatedFeedForward.default_config().set(input_dim=32, hidden_dim=64)
    replace(cfg, Linear, INT8)
    layer, state = make.build(cfg)
    return layer, state, rng.normal(size=(8, 4, 32)).astype(np.float32)


def assert_near(got, want, tolerance):
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


def test_gradients_of_micro_batches_add_up_to_that_of_the_batch(feed_forward):
    layer, state, x = feed_forward
    parts = [gradient(layer, state, part) for part in np.split(x, 4)]
    total = jax.tree.map(lambda *grads: sum(grads), *parts)
    # Operands of the weights' gradients are scaled over tokens: those of a part have finer steps,
    # of 1/127 of the largest at most, half of which is the error of each product in the sum.
    assert_near(total, gradient(layer, state, x), 0.5 / 127 * 4)


def test_devices_share_scales_and_so_have_the_gradients_of_one(feed_forward):
    layer, state, x = feed_forward
    placement = Placement(make_mesh({"fsdp": 2, "model": 2}, jax.devices()[:4]), DEFAULT_RULES)
    shardings = parameter_shardings(layer.parameter_specs(), placement.mesh, placement.rules)
    placed = jax.device_put(state, shardings), jax.device_put(x, placement.batch(3))
    # Sums of float32 in another order may round a hidden value to the next of its 255 steps.
    assert_near(gradient(layer, *placed, placement), gradient(layer, state, x), 1e-3)


def test_queries_keys_and_values_are_one_quantised_product(make, rng):
    cfg = FusedQKV.default_config().set(input_dim=32, num_heads=4, num_kv_heads=2, head_dim=8)
    exact, state = make.build(cfg)
    rounded = cfg.clone(projection=INT8).instantiate()
    x = rng.normal(size=(2, 4, 32)).astype(np.float32)
    want, got = make.call(exact, state, x, None), make.call(rounded, state, x, None)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=ERRORS["int8"] * np.abs(theirs).max())
