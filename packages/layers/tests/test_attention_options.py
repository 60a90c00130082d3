"""What attention may do besides its formula, and positions as biases and vectors."""

import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_core.kernels import recording_choices
from axlearn_layers import Alibi, Attention, Linear, SequenceInfo, SinusoidalPositions, T5Bias
from axlearn_layers.attention_bias import alibi_slopes

DIM, HEADS, HEAD_DIM, SEQ = 12, 3, 4, 7


def config(**fields):
    return Attention.Config(input_dim=DIM, num_heads=HEADS, head_dim=HEAD_DIM, **fields)


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, SEQ, DIM)).astype(np.float32)


def formula(state, x, cap=None, bias=None, sinks=None, gate=None):
    """Causal attention of one head after the other, in float64."""
    fused = np.einsum("bte,ehjd->bthjd", x, np.asarray(state["qkv"]["projection"]["weight"], float))
    result = 0
    for head in range(HEADS):
        q, k, v = (fused[:, :, head, part] for part in range(3))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(HEAD_DIM)
        scores = scores if cap is None else cap * np.tanh(scores / cap)
        scores = scores if bias is None else scores + bias[head]
        weights = np.exp(scores) * np.tril(np.ones((SEQ, SEQ)))
        sink = 0 if sinks is None else np.exp(np.float64(sinks[head]))
        context = weights / (weights.sum(-1, keepdims=True) + sink) @ v
        if gate is not None:
            context = context / (1 + np.exp(-(x @ np.asarray(gate, float)[:, head])))
        result = result + context @ np.asarray(state["output"]["weight"], float)[head]
    return result


def distances():
    return np.abs(np.arange(SEQ)[:, None] - np.arange(SEQ))


OPTIONS = {
    "logit cap": ({"logit_cap": 0.5}, lambda state: {"cap": 0.5}),
    "sinks": ({"sinks": True}, lambda state: {"sinks": state["sinks"]}),
    "gate": (
        {"gate": Linear.default_config()},
        lambda state: {"gate": state["gate"]["weight"]},
    ),
    "alibi": (
        {"bias": Alibi.default_config()},
        lambda state: {"bias": [-slope * distances() for slope in (2**-4, 2**-8, 2**-2)]},
    ),
    "t5": (
        {"bias": T5Bias.Config(num_buckets=32)},  # 16 buckets of one distance each
        lambda state: {"bias": np.asarray(state["bias"]["weight"], float)[:, distances()]},
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_option_equals_float64_formula(make, x, name):
    fields, options = OPTIONS[name]
    layer, state = make.build(config(**fields))
    expected = formula(state, x, **options(state))
    np.testing.assert_allclose(make.call(layer, state, x, SequenceInfo()), expected, atol=1e-5)
    assert not np.allclose(expected, formula(state, x), atol=1e-3)


@pytest.mark.parametrize("name", OPTIONS)
def test_decoding_equals_the_whole_sequence_with_an_option(make, x, name):
    layer, state = make.build(config(**OPTIONS[name][0]))
    cache = layer.init_cache(2, SEQ, "float32")
    parts = []
    for part in (slice(0, 5), slice(5, SEQ)):
        info = SequenceInfo(np.tile(np.arange(SEQ)[part], (2, 1)))
        y, cache = make.call(layer, state, x[:, part], cache, info, method="extend")
        parts.append(y)
    expected = make.call(layer, state, x, SequenceInfo())
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_loses_the_kernel_that_skips_blocks(make, x, name):
    layer, state = make.build(config(**OPTIONS[name][0]))
    with recording_choices() as choices:
        make.call(layer, state, x, SequenceInfo())
    assert choices[0].name.endswith("attention.blocked")


def test_alibi_slopes_are_those_of_the_paper():
    assert alibi_slopes(8) == tuple(2.0**-i for i in range(1, 9))
    assert alibi_slopes(1) == (2.0**-8,)
    assert alibi_slopes(12)[8:] == tuple(2.0 ** -(i + 0.5) for i in range(4))


def test_sinusoidal_positions_alternate_sine_and_cosine(make):
    layer = SinusoidalPositions.Config(dim=6).instantiate()
    positions = np.array([[0, 1, 2], [7, 8, 9]])
    vectors = make.call(layer, {}, positions)
    for i in range(3):
        angles = positions / 10000 ** (2 * i / 6)
        np.testing.assert_allclose(vectors[..., 2 * i], np.sin(angles), atol=1e-6)
        np.testing.assert_allclose(vectors[..., 2 * i + 1], np.cos(angles), atol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SinusoidalPositions.Config(dim=5), r"dim \(=5\) must be even"),
        (T5Bias.Config(num_heads=2, num_buckets=7), r"num_buckets \(=7\) must be a multiple of 2"),
        (
            T5Bias.Config(num_heads=2, max_distance=16),
            r"max_distance \(=16\) must be more than the 16 distances",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused_when_built(config, message):
    with pytest.raises(BuildError, match=message):
        config.instantiate()
