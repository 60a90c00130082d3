"""Stacks of several kinds of layers: lists, scanned patterns, and their caches."""

import functools

import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError, ConfigError
from axlearn_core.kernels import causal, same_segment, window
from axlearn_layers import (
    LayerList,
    MixtureOfExperts,
    Remat,
    Repeat,
    SequenceInfo,
    flops_per_token,
    scanned_pattern,
)


def block(make, **attention):
    layer = make.llama().stack.layer
    layer.attention.set(**attention)
    return layer


def sparse_block(make):
    experts = MixtureOfExperts.default_config().set(hidden_dim=8, num_experts=4, top_k=2)
    return block(make).set(feed_forward=experts)


def local_block(make):
    return block(make, mask=causal() & window(2) & same_segment())


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 6, 16)).astype(np.float32)


def unrolled(make, layers, states, x):
    for layer, state in zip(layers, states, strict=True):
        x = make.call(layer.clone(input_dim=16).instantiate(), state, x, SequenceInfo())
    return x


def copy_of(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_a_scanned_pattern_equals_its_layers_one_after_the_other(make, x):
    local, wide = local_block(make), block(make)
    stack, state = make.build(scanned_pattern([local, wide], 5).set(input_dim=16))
    repeated, rest = state["layer0"]["layer"], state["layer1"]["layer0"]
    states = [copy_of(repeated[f"layer{i % 2}"], i // 2) for i in range(4)] + [rest]
    expected = unrolled(make, [local, wide, local, wide, local], states, x)
    np.testing.assert_allclose(make.call(stack, state, x, SequenceInfo()), expected, atol=1e-5)


def test_a_whole_number_of_periods_is_one_loop(make):
    stack = scanned_pattern([block(make)] * 3, 6)
    assert isinstance(stack, Repeat.Config)
    assert stack.num_layers == 2


def test_dense_layers_then_sparse_ones(make, x):
    dense, sparse = block(make), sparse_block(make)
    cfg = LayerList.Config(
        input_dim=16,
        layers=[dense, Repeat.default_config().set(layer=sparse, num_layers=2)],
    )
    stack, state = make.build(cfg)
    scanned = state["layer1"]["layer"]
    states = [state["layer0"], copy_of(scanned, 0), copy_of(scanned, 1)]
    expected = unrolled(make, [dense, sparse, sparse], states, x)
    np.testing.assert_allclose(make.call(stack, state, x, SequenceInfo()), expected, atol=1e-5)


def test_an_unrolled_stack_names_each_layer_and_its_parameters_in_order(make, x):
    pattern = [LayerList.default_config().set(layers=[local_block(make)]), block(make)]
    inner = Repeat.default_config().set(layer=block(make), num_layers=2)
    layers = [block(make), Repeat.default_config().set(num_layers=2), inner]
    layers[1].layer = LayerList.default_config().set(layers=[*pattern, inner])
    stack, state = make.build(LayerList.Config(input_dim=16, layers=layers))
    y = x
    for layer, path, indices in stack.unrolled():
        own = copy_of(functools.reduce(dict.get, path, state), *indices)
        y = make.call(layer, own, y, SequenceInfo())
    assert sum(1 for _ in stack.unrolled()) == 1 + 2 * (1 + 1 + 2) + 2
    np.testing.assert_allclose(make.call(stack, state, x, SequenceInfo()), y, atol=1e-5)


def test_decoding_through_nested_stacks_equals_the_whole_sequence(make):
    cfg = make.llama()
    pattern = [local_block(make), LayerList.default_config().set(layers=[block(make)])]
    cfg.stack = LayerList.default_config().set(
        layers=[block(make), scanned_pattern(pattern, 4), sparse_block(make)]
    )
    lm, state = make.build(cfg)
    batch = make.batch(batch=1, seq=5)
    expected = make.call(lm, state, batch, method="logits")
    ids, cache = batch["input_ids"], lm.init_cache(1, 8)
    prefix, cache = make.call(lm, state, ids[:, :4], cache, method="extend")
    last, _ = make.call(lm, state, ids[:, 4:], cache, method="extend")
    np.testing.assert_allclose(np.concatenate([prefix, last], 1), expected, atol=1e-5)


def test_remat_of_each_layer_changes_no_gradient_and_keeps_less(make, x):
    def pullback_of(remat):
        stack, state = make.build(
            LayerList.Config(input_dim=16, layers=[block(make)] * 2, remat=remat)
        )
        return jax.vjp(lambda x: make.call(stack, state, x, SequenceInfo()), x)

    (y, plain), (same, rematerialised) = pullback_of(None), pullback_of(Remat.Config())
    np.testing.assert_allclose(same, y, atol=1e-6)
    np.testing.assert_allclose(rematerialised(y)[0], plain(y)[0], atol=1e-4)
    kept = [sum(leaf.size for leaf in jax.tree.leaves(p)) for p in (plain, rematerialised)]
    assert kept[1] < kept[0]


def test_flops_are_the_sum_of_the_layers(make):
    layers = [block(make), sparse_block(make)]
    stack = LayerList.Config(input_dim=16, layers=layers).instantiate()
    expected = sum(flops_per_token(layer.clone(input_dim=16).instantiate(), 6) for layer in layers)
    assert flops_per_token(stack, 6) == expected


def test_an_empty_list_is_refused_when_built():
    with pytest.raises(BuildError, match="at least one layer"):
        LayerList.Config(input_dim=16, layers=[]).instantiate()


def test_a_pattern_longer_than_the_stack_is_refused(make):
    with pytest.raises(ConfigError, match=r"num_layers \(=2\).*length of the pattern \(=3\)"):
        scanned_pattern([block(make)] * 3, 2)
