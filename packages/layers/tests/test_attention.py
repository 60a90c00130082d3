import numpy as np
import pytest

from axlearn_core.config import REQUIRED, BuildError
from axlearn_core.kernels import (
    causal,
    chunk,
    full,
    prefix,
    recording_choices,
    same_segment,
    window,
)
from axlearn_layers import Attention, FusedQKV, Rotary, SeparateQKV, SequenceInfo

DIM, HEADS, KV, HEAD_DIM = 12, 4, 2, 6


def config(**fields):
    sizes = {"input_dim": DIM, "num_heads": HEADS, "num_kv_heads": KV, "head_dim": HEAD_DIM}
    return Attention.default_config().set(**(sizes | fields))


def turn(x, positions, theta):
    """Rotary embedding as multiplication of complex numbers, in float64."""
    half = x.shape[-1] // 2
    numbers = x[..., :half] + 1j * x[..., half:]
    angles = positions[..., None, None] * theta ** (-np.arange(half) / half)
    turned = numbers * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], -1)


def formula(state, x, allowed, positions=None, theta=10000.0):
    """Attention of one query head after the other, in float64."""
    qkv_state = state["qkv"].get("inner", state["qkv"])["projection"]
    weight = np.asarray(qkv_state["weight"], np.float64)  # [embed, kv, group + 2, head_dim]
    fused = np.einsum("bte,ekgd->btkgd", x, weight)
    result = 0
    for head in range(HEADS):
        kv, member = divmod(head, HEADS // KV)
        q, k, v = fused[:, :, kv, member], fused[:, :, kv, -2], fused[:, :, kv, -1]
        if positions is not None:
            q, k = (turn(a[:, :, None], positions, theta)[:, :, 0] for a in (q, k))
        scores = np.where(allowed, q @ k.swapaxes(1, 2) / np.sqrt(HEAD_DIM), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        context = weights / weights.sum(-1, keepdims=True) @ v
        result = result + context @ np.asarray(state["output"]["weight"], np.float64)[head]
    return result


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 7, DIM)).astype(np.float32)


def test_attention_equals_float64_formula(make, x):
    layer, state = make.build(config())
    expected = formula(state, x, np.tril(np.ones((7, 7), bool)))
    np.testing.assert_allclose(make.call(layer, state, x, SequenceInfo()), expected, atol=1e-5)


def test_rotary_attention_equals_float64_formula(make, x):
    layer, state = make.build(config(qkv=Rotary.default_config().set(theta=100.0)))
    positions = np.array([[0, 1, 2, 0, 1, 2, 3], [5, 6, 7, 8, 9, 10, 11]])
    expected = formula(state, x, np.tril(np.ones((7, 7), bool)), positions, theta=100.0)
    y = make.call(layer, state, x, SequenceInfo(positions=positions))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_rotary_positions_count_from_zero_where_none_are_given(make, x):
    layer, state = make.build(config(qkv=Rotary.default_config()))
    given = make.call(layer, state, x, SequenceInfo(positions=np.tile(np.arange(7), (2, 1))))
    np.testing.assert_array_equal(make.call(layer, state, x, SequenceInfo()), given)


def test_segments_stay_apart(make, x):
    layer, state = make.build(config())
    segments = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 2, 2, 2, 3, 3, 3]])
    allowed = np.tril(segments[:, :, None] == segments[:, None, :])
    y = make.call(layer, state, x, SequenceInfo(segment_ids=segments))
    np.testing.assert_allclose(y, formula(state, x, allowed), atol=1e-5)


def test_mask_is_a_choice(make, x):
    layer, state = make.build(config(mask=window(3)))
    distance = np.abs(np.arange(7)[:, None] - np.arange(7))
    expected = formula(state, x, distance < 3)
    np.testing.assert_allclose(make.call(layer, state, x, SequenceInfo()), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("mask", "simplified"),
    [
        (causal() & same_segment(), causal()),
        (causal() & window(3) & same_segment(), causal() & window(3)),
        (causal() | same_segment(), full()),
        (~same_segment(), ~full()),
    ],
)
def test_without_segments_no_kernel_compares_them(make, x, mask, simplified):
    layer, state = make.build(config(mask=mask))
    with recording_choices() as choices:
        make.call(layer, state, x, SequenceInfo())
    assert choices[0].spec.mask == simplified


def test_a_kernel_can_be_forced(make, x):
    layer, state = make.build(config(kernel="reference"))
    with recording_choices() as choices:
        make.call(layer, state, x, SequenceInfo())
    assert choices[0].name.endswith("attention.reference") and choices[0].forced


def test_scale_multiplies_scores(make, x):
    layer, state = make.build(config(scale=0.0))
    averages = formula(state, x, np.tril(np.ones((7, 7), bool)), positions=None)
    y = make.call(layer, state, x, SequenceInfo())
    assert not np.allclose(y, averages)
    np.testing.assert_allclose(y[:, 0], averages[:, 0], atol=1e-5)  # one key: no choice


def test_fused_weight_is_split_over_kv_heads_only():
    specs = config().instantiate().parameter_specs()
    weight = specs["qkv"]["projection"]["weight"]
    assert weight.shape == (DIM, KV, HEADS // KV + 2, HEAD_DIM)
    assert weight.axes == ("embed", "kv_heads", None, "head_dim")
    assert specs["output"]["weight"].axes == ("heads", "head_dim", "embed")


def test_head_dim_and_kv_heads_follow_from_the_others():
    layer = Attention.default_config().set(input_dim=12, num_heads=3).instantiate()
    assert layer.parameter_specs()["qkv"]["projection"]["weight"].shape == (12, 3, 3, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"input_dim": 256, "num_heads": 6, "head_dim": None},
            r"num_heads \(=6\) must divide input_dim \(=256\)",
        ),
        ({"num_kv_heads": 3}, r"num_kv_heads \(=3\) must divide num_heads \(=4\)"),
        ({"head_dim": 5, "qkv": Rotary.default_config()}, r"head_dim \(=5\) must be even"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_when_built(fields, message):
    with pytest.raises(BuildError, match=message):
        config(**fields).instantiate()


def test_rotary_wraps_any_projection():
    wrapped = Rotary.default_config().set(inner=Rotary.default_config())
    layer = config(qkv=wrapped).instantiate()
    assert isinstance(layer.qkv.inner.inner, FusedQKV)
    assert wrapped.inner.inner.input_dim is REQUIRED


@pytest.mark.parametrize("mask", [causal() & chunk(3), causal() | prefix(2)])
def test_masks_that_count_from_the_beginning_count_from_each_documents(make, x, mask):
    layer, state = make.build(config(mask=mask & same_segment()))
    positions = np.array([[0, 1, 2, 3, 0, 1, 2]] * 2)
    packed = SequenceInfo(positions, np.array([[1, 1, 1, 1, 2, 2, 2]] * 2))
    first = make.call(layer, state, x[:, :4], SequenceInfo())
    second = make.call(layer, state, x[:, 4:], SequenceInfo())
    y = make.call(layer, state, x, packed)
    np.testing.assert_allclose(y, np.concatenate([first, second], 1), atol=1e-5)


def test_separate_projections_equal_the_fused_one(make, x):
    fused, state = make.build(config())
    weight = state["qkv"]["projection"]["weight"]
    parts = {
        "query": weight[:, :, :-2].reshape(DIM, HEADS, HEAD_DIM),
        "key": weight[:, :, -2],
        "value": weight[:, :, -1],
    }
    separate = config(qkv=SeparateQKV.default_config()).instantiate()
    separate_state = {**state, "qkv": {name: {"weight": w} for name, w in parts.items()}}
    np.testing.assert_allclose(
        make.call(separate, separate_state, x, SequenceInfo()),
        make.call(fused, state, x, SequenceInfo()),
        atol=1e-6,
    )
