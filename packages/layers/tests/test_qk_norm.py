import numpy as np
import pytest

from axlearn_layers import FusedQKV, LayerNorm, QKNorm, Rotary

SIZES = {"input_dim": 12, "num_heads": 4, "num_kv_heads": 2, "head_dim": 6}


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 5, 12)).astype(np.float32)


def rms_norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * np.asarray(scale, np.float64)


def projected(make, state, x):
    qkv = make.call(FusedQKV.Config(**SIZES).instantiate(), state, x, None)
    return [np.asarray(part, np.float64) for part in qkv]


def test_each_head_is_normed_by_itself(make, x):
    layer, state = make.build(QKNorm.Config(**SIZES))
    query, key, value = projected(make, state["inner"], x)
    normed = make.call(layer, state, x, None)
    np.testing.assert_allclose(
        normed.query, rms_norm(query, state["query_norm"]["scale"]), atol=1e-5
    )
    np.testing.assert_allclose(normed.key, rms_norm(key, state["key_norm"]["scale"]), atol=1e-5)
    np.testing.assert_array_equal(normed.value, value.astype(np.float32))


def test_heads_may_be_normed_together(make, x):
    layer, state = make.build(QKNorm.Config(**SIZES, across_heads=True))
    query, key, _ = projected(make, state["inner"], x)
    normed = make.call(layer, state, x, None)
    for name, before in (("query", query), ("key", key)):
        expected = rms_norm(before.reshape(2, 5, -1), state[f"{name}_norm"]["scale"])
        np.testing.assert_allclose(getattr(normed, name), expected.reshape(before.shape), atol=1e-5)


def test_parameters_carry_the_axes_of_what_they_scale():
    def axes(**fields):
        specs = QKNorm.Config(**SIZES, **fields).instantiate().parameter_specs()
        return [(specs[n]["scale"].shape, specs[n]["scale"].axes) for n in NAMES]

    assert axes() == [((6,), ("head_dim",))] * 2
    assert axes(across_heads=True) == [((24,), ("heads",)), ((12,), ("kv_heads",))]


NAMES = ("query_norm", "key_norm")


@pytest.mark.parametrize("across_heads", [False, True])
def test_norm_and_rotation_compose_in_either_order(make, x, across_heads):
    norm = QKNorm.Config(across_heads=across_heads)
    orders = [
        Rotary.Config(**SIZES, inner=norm.clone()),
        norm.clone(**SIZES, inner=Rotary.default_config()),
    ]
    built = [make.build(cfg)[0] for cfg in orders]
    fused = make.build(FusedQKV.Config(**SIZES))[1]
    gains = {"query_norm": {"scale": np.ones(24 if across_heads else 6, np.float32)}}
    gains["key_norm"] = {"scale": np.ones(12 if across_heads else 6, np.float32)}
    states = [{"inner": {"inner": fused, **gains}}, {"inner": {"inner": fused}, **gains}]
    # A rotation keeps lengths, so that without gains both orders are the same function.
    first, second = (make.call(*pair, x, None) for pair in zip(built, states, strict=True))
    np.testing.assert_allclose(first.query, second.query, atol=1e-5)
    np.testing.assert_allclose(first.key, second.key, atol=1e-5)


def test_any_norm_will_do(make, x):
    layer, state = make.build(QKNorm.Config(**SIZES, norm=LayerNorm.default_config()))
    state["query_norm"]["bias"] *= 0
    state["query_norm"]["scale"] = np.ones(6, np.float32)
    query = make.call(layer, state, x, None).query
    np.testing.assert_allclose(query.mean(-1), 0, atol=1e-6)
