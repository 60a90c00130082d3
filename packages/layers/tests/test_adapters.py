"""What holds for every adapter: how it starts, what is frozen, where it may stand, merging."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import BuildError, replace
from axlearn_core.module import flatten_paths, functional, zeros
from axlearn_core.training.state import merge_trees, split_trainable
from axlearn_layers import (
    Adapter,
    DoRA,
    GatedDeltaNet,
    GatedFeedForward,
    Linear,
    LoRA,
    Mamba2,
    MixtureOfExperts,
    MultiLoRA,
    Projection,
    merge_adapters,
    unmerge_adapters,
)

KINDS = [
    LoRA.default_config(),
    DoRA.default_config(),
    MultiLoRA.default_config().set(num_adapters=3),
]


def name(kind):
    return type(kind).__qualname__.split(".")[0]


@pytest.fixture(params=KINDS, ids=name)
def kind(request):
    """A small adapter, whose random D stays smaller than the weights it changes."""
    return request.param.clone(rank=2, alpha=0.5)


@pytest.fixture
def index(kind):
    return 1 if isinstance(kind, MultiLoRA.Config) else None


def adapted(cfg, kind):
    """Puts an adapter around every projection of a model."""
    replace(cfg, Projection, lambda old: kind.clone(inner=old))
    return cfg


def batch_of(make):
    batch = make.batch()
    return batch | {"adapter_ids": np.full(len(batch["input_ids"]), 1)}


def test_merging_untrained_adapters_gives_back_the_weights_to_the_bit(make, kind):
    lm, state = make.build(adapted(make.gpt2(), kind))
    state = untrained(state, lm.parameter_specs())
    merged = merge_adapters(lm, state, index=1)
    jax.tree.map(np.testing.assert_array_equal, merged, unwrapped(state))


def untrained(state, specs, inside=False):
    """Sets what adapters start at 0 back to it; biases inside of them stay as they are."""
    if isinstance(state, dict):
        inside = inside or "inner" in state
        return {name: untrained(state[name], specs[name], inside) for name in state}
    return 0 * state if inside and specs.trainable and specs.initializer is zeros else state


def unwrapped(state):
    """The parameters inside of all adapters."""
    if not isinstance(state, dict):
        return state
    if "inner" in state and "a" in state:
        return unwrapped(state["inner"])
    return {name: unwrapped(value) for name, value in state.items()}


def test_only_what_is_wrapped_is_frozen(make, kind):
    specs = flatten_paths(adapted(make.gpt2(), kind).instantiate().parameter_specs())
    frozen = {path for path, spec in specs.items() if not spec.trainable}
    assert frozen == {path for path in specs if "/inner/" in path}
    assert "stack/layer/feed_forward/up/inner/bias" in frozen


def test_only_adapters_have_gradients(make, kind):
    lm, state = make.build(adapted(make.llama(), kind))
    params, frozen = split_trainable(state, lm.parameter_specs())

    @jax.jit
    @jax.grad
    def gradient(params, frozen, batch):
        state = merge_trees(params, frozen)
        return functional(lm, state=state, prng_key=None, inputs=(batch,))[0].total

    down = gradient(params, frozen, batch_of(make))["stack"]["layer"]["feed_forward"]["down"]
    own = {"a", "b", "magnitude"} if isinstance(kind, DoRA.Config) else {"a", "b"}
    assert down.keys() == own
    assert all(np.abs(leaf).max() > 0 for leaf in down.values())


def test_a_merged_model_computes_the_same_without_adapters(make, kind, index):
    lm, state = make.build(adapted(make.gpt2(), kind))
    base = make.gpt2().instantiate()
    merged = merge_adapters(lm, state, index=index)
    assert jax.tree.map(np.shape, merged) == shapes_of(base.parameter_specs())
    expected = make.call(lm, state, batch_of(make), method="logits")
    logits = make.call(base, merged, make.batch(), method="logits")
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def shapes_of(specs):
    return {
        name: shapes_of(value) if isinstance(value, dict) else value.shape
        for name, value in specs.items()
    }


def test_unmerging_gives_back_what_was_merged(make, kind, index):
    lm, state = make.build(adapted(make.gpt2(), kind))
    params, _ = split_trainable(state, lm.parameter_specs())
    merged = merge_adapters(lm, state, index=index)
    # The adapters alone are enough. Float32 has 24 bits, and weights are up to 1.
    back = unmerge_adapters(lm, merged, params, index=index)
    assert flatten_paths(back).keys() == flatten_paths(state).keys()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), back, state)


def test_an_adapter_around_an_adapter_merges_and_unmerges_too(make):
    lora, dora = (each.clone(rank=2, alpha=0.25) for each in KINDS[:2])
    lm, state = make.build(adapted(adapted(adapted(make.llama(), lora), dora), lora))
    merged = merge_adapters(lm, state)
    logits = make.call(make.llama().instantiate(), merged, make.batch(), method="logits")
    expected = make.call(lm, state, make.batch(), method="logits")
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    back = unmerge_adapters(lm, merged, state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), back, state)


def test_dora_around_several_adapters_finds_no_one_weight(make):
    lm, state = make.build(adapted(adapted(make.llama(), KINDS[2]), KINDS[1]))
    with pytest.raises(ValueError, match=r"holds 3 adapters and no one weight: say which"):
        make.call(lm, state, batch_of(make))


def with_gate(cfg):
    cfg.stack.layer.attention.gate = Linear.default_config()


def with_mamba(cfg):
    cfg.stack.layer.attention = Mamba2.default_config().set(state_dim=4, head_dim=8)


def with_delta_net(cfg):
    cfg.stack.layer.attention = GatedDeltaNet.default_config().set(
        num_heads=2, key_dim=4, value_dim=4
    )


def with_experts(cfg):
    experts = MixtureOfExperts.default_config().set(num_experts=4, top_k=2, hidden_dim=8)
    cfg.stack.layer.feed_forward = experts.set(
        shared=GatedFeedForward.default_config().set(hidden_dim=8)
    )


@pytest.mark.parametrize(
    ("change", "projections"),
    [
        (with_gate, {"qkv.inner.projection", "output", "gate", "gate_up", "down"}),
        (with_mamba, {"gate_value", "key_query", "step", "output", "gate_up", "down"}),
        (with_delta_net, {"query_key", "value_gate", "rates", "output", "gate_up", "down"}),
        (with_experts, {"qkv.inner.projection", "output", "router.projection", "gate_up", "down"}),
    ],
)
def test_every_kind_of_layer_takes_adapters_around_its_projections(make, change, projections):
    kind = DoRA.default_config().set(rank=2, alpha=0.5)  # reads weights and biases, as none else
    cfg = make.llama()
    change(cfg)
    base = cfg.clone().instantiate()
    lm, state = make.build(adapted(cfg, kind))
    ends = {end for end in projections for path in adapter_paths(lm) if path.endswith(f".{end}")}
    assert ends == projections and len(adapter_paths(lm)) == len(projections)
    expected = make.call(lm, state, make.batch(), method="logits")
    logits = make.call(base, merge_adapters(lm, state), make.batch(), method="logits")
    np.testing.assert_allclose(logits, expected, atol=2e-5)


def adapter_paths(module):
    below = [path for child in module.children.values() for path in adapter_paths(child)]
    return [module.path, *below] if isinstance(module, Adapter) else below


def test_a_merged_weight_keeps_its_dtype(kind, index):
    inner = Linear.default_config().set(dtype="bfloat16")
    layer = kind.clone(inner=inner, input_dim=4, output_dim=6).instantiate()
    merged = merge_adapters(layer, layer.initialize(jax.random.key(0)), index=index)
    assert merged["weight"].dtype == jnp.bfloat16


def test_a_rank_below_1_is_refused_when_built(kind):
    cfg = kind.clone(inner=Linear.default_config(), input_dim=4, output_dim=6, rank=0)
    with pytest.raises(BuildError, match=r"rank \(=0\) must be at least 1"):
        cfg.instantiate()


def test_a_projection_without_a_weight_cannot_be_merged_into():
    class Doubling(Projection):
        def forward(self, x):
            return 2 * x

    cfg = LoRA.Config(inner=Doubling.default_config(), input_dim=4, output_dim=4)
    layer = cfg.instantiate()
    state = layer.initialize(jax.random.key(0)) | {"inner": {}}
    with pytest.raises(NotImplementedError, match=r"Doubling does not say what its weight is"):
        merge_adapters(layer, state)
