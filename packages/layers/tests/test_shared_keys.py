"""Keys, values and biases that layers share."""

import jax
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.module import functional
from axlearn_layers import (
    CausalLM,
    LayerList,
    QKNorm,
    QueryOnly,
    Repeat,
    Rotary,
    SequenceInfo,
    SharedBias,
    SharedKeys,
    T5Bias,
    TransformerBlock,
)


def block(**attention):
    cfg = TransformerBlock.default_config()
    qkv = Rotary.Config(inner=QKNorm.default_config())
    cfg.attention.set(**({"num_heads": 4, "num_kv_heads": 2, "qkv": qkv} | attention))
    cfg.feed_forward.hidden_dim = 24
    return cfg


def queries_only():
    return block(qkv=Rotary.Config(inner=QKNorm.Config(inner=QueryOnly.default_config())))


def shared(**fields):
    rest = Repeat.default_config().set(layer=queries_only(), num_layers=2)
    return SharedKeys.Config(**({"first": block(offers_keys=True), "rest": rest} | fields))


def sharing_model(**fields):
    """Four layers, of which the last three attend to one set of keys."""
    before = Repeat.default_config().set(layer=block(), num_layers=1)
    stack = LayerList.Config(layers=[before, shared()], **fields)
    return CausalLM.default_config().set(vocab_size=37, dim=16, stack=stack)


def test_later_layers_attend_to_the_keys_of_the_first(make, rng):
    """Equal to layers with projections of their own whose keys are forced to be the first's."""
    layer, state = make.build(shared().set(input_dim=16))
    x = rng.normal(size=(2, 6, 16)).astype(np.float32)

    first = layer.first
    y, side = functional(first, state=state["first"], prng_key=None, inputs=(x, SequenceInfo()))
    keys = side.module_outputs["attention"]["offered_keys"]
    one = layer.rest.layer
    for index in range(2):
        weights = jax.tree.map(lambda a, i=index: a[i], state["rest"]["layer"])
        y = make.call(one, weights, y, SequenceInfo(shared=keys))
    np.testing.assert_allclose(make.call(layer, state, x, SequenceInfo()), y, atol=1e-5)


def test_only_queries_have_parameters():
    specs = shared().set(input_dim=16).instantiate().parameter_specs()
    qkv = specs["rest"]["layer"]["attention"]["qkv"]["inner"]
    assert qkv["inner"]["projection"]["weight"].shape == (2, 16, 4, 4)
    assert sorted(qkv) == ["inner", "query_norm"]


def test_offered_keys_do_not_leave_the_stack(make, rng):
    layer, state = make.build(shared().set(input_dim=16))
    x = rng.normal(size=(2, 6, 16)).astype(np.float32)
    _, side = functional(layer, state=state, prng_key=None, inputs=(x, SequenceInfo()))
    assert jax.tree.leaves(side.module_outputs) == []


def test_the_cache_is_that_of_layers_with_keys():
    cache = sharing_model().instantiate().init_cache(2, 8)
    assert len(jax.tree.leaves(cache["stack"])) == 4  # keys and values, twice
    assert cache["stack"]["layer1"]["rest"] == {}


def test_a_first_that_offers_nothing_is_refused(make, rng):
    layer, state = make.build(shared(first=block()).set(input_dim=16))
    x = rng.normal(size=(2, 6, 16)).astype(np.float32)
    with pytest.raises(ConfigError, match=r"root\.first must offer keys once, not 0 times"):
        make.call(layer, state, x, SequenceInfo())


def test_queries_alone_are_refused_outside(make, rng):
    layer, state = make.build(queries_only().attention.set(input_dim=16))
    x = rng.normal(size=(2, 6, 16)).astype(np.float32)
    with pytest.raises(ConfigError, match=r"root has no keys of its own.*Rotary.*`rest` of a Shar"):
        make.call(layer, state, x, SequenceInfo())


def test_a_shared_bias_equals_the_same_bias_in_every_layer(make, rng):
    bias = T5Bias.Config(num_buckets=8, max_distance=16)
    inner = Repeat.default_config().set(layer=block(), num_layers=2)
    sharing, state = make.build(
        SharedBias.Config(input_dim=16, inner=inner, bias=bias.clone(num_heads=4))
    )
    owning = inner.clone(input_dim=16)
    owning.layer.attention.bias = bias
    owning = owning.instantiate()
    own = jax.tree.map(lambda a: a, state["inner"])
    own["layer"]["attention"]["bias"] = {"weight": np.stack([state["bias"]["weight"]] * 2)}
    x = rng.normal(size=(2, 6, 16)).astype(np.float32)
    np.testing.assert_array_equal(
        make.call(sharing, state, x, SequenceInfo()), make.call(owning, own, x, SequenceInfo())
    )
