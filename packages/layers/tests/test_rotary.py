import math

import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_layers import (
    DynamicNTKFrequencies,
    FusedQKV,
    LinearFrequencies,
    Llama3Frequencies,
    Rotary,
    YarnFrequencies,
)

SIZES = {"input_dim": 12, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
THETA, DIM, ORIGINAL = 10000.0, 32, 64


def frequencies(cfg, length=1):
    positions = np.arange(length)[None]
    return np.asarray(cfg.instantiate()(THETA, DIM, positions)).reshape(-1)


def wavelengths():
    return [2 * math.pi * THETA ** (2 * i / DIM) for i in range(DIM // 2)]


def test_linear_frequencies_are_those_of_positions_divided():
    expected = [2 * math.pi / (4 * w) for w in wavelengths()]
    np.testing.assert_allclose(frequencies(LinearFrequencies.Config(factor=4)), expected, rtol=1e-6)


def test_llama3_frequencies_follow_their_wavelengths():
    def one(wavelength):
        if wavelength < ORIGINAL / 4:
            return 2 * math.pi / wavelength
        if wavelength > ORIGINAL / 1:
            return 2 * math.pi / wavelength / 8
        smooth = (ORIGINAL / wavelength - 1) / (4 - 1)
        return (1 - smooth) * 2 * math.pi / wavelength / 8 + smooth * 2 * math.pi / wavelength

    cfg = Llama3Frequencies.Config(factor=8, original_length=ORIGINAL)
    expected = [one(w) for w in wavelengths()]
    np.testing.assert_allclose(frequencies(cfg), expected, rtol=1e-6)


def test_dynamic_ntk_raises_theta_with_the_length():
    cfg = DynamicNTKFrequencies.Config(factor=2, original_length=ORIGINAL)
    for length, growth in [(10, 1), (64, 1), (96, 2 * 96 / 64 - 1)]:
        theta = THETA * growth ** (DIM / (DIM - 2))
        expected = [theta ** (-2 * i / DIM) for i in range(DIM // 2)]
        np.testing.assert_allclose(frequencies(cfg, length), expected, rtol=1e-5)


def test_dynamic_ntk_lets_each_sequence_have_its_length():
    scaled = DynamicNTKFrequencies.Config(factor=2, original_length=4).instantiate()
    both = scaled(THETA, DIM, np.array([[0, 1, 2, 3], [4, 5, 6, 7]]))
    assert both.shape == (2, 1, 1, DIM // 2)
    assert (both[0, 0, 0, 1:] > both[1, 0, 0, 1:]).all()


def test_yarn_interpolates_what_turns_seldom_only():
    cfg = YarnFrequencies.Config(factor=4, original_length=4096)

    def pair(turns):
        return DIM * math.log(4096 / (turns * 2 * math.pi)) / (2 * math.log(THETA))

    first, last = math.floor(pair(32)), math.ceil(pair(1))
    assert 0 < first < last < DIM // 2
    expected = []
    for i, wavelength in enumerate(wavelengths()):
        ramp = min(max((i - first) / (last - first), 0), 1)
        plain = 2 * math.pi / wavelength
        expected.append(plain / 4 * ramp + plain * (1 - ramp))
    np.testing.assert_allclose(frequencies(cfg), expected, rtol=1e-6)
    assert cfg.instantiate().amplitude == pytest.approx(0.1 * math.log(4) + 1)


def test_yarn_multiplies_queries_and_keys(make, rng):
    x = rng.normal(size=(1, 3, 12)).astype(np.float32)
    yarn = YarnFrequencies.Config(factor=4, original_length=64, amplitude=2.0)
    layer, state = make.build(Rotary.Config(**SIZES, frequencies=yarn))
    plain = make.call(layer.inner.config.clone().instantiate(), state["inner"], x, None)
    turned = make.call(layer, state, x, None)
    np.testing.assert_allclose(turned.query[:, 0], 2 * plain.query[:, 0], rtol=1e-6)
    np.testing.assert_allclose(turned.key[:, 0], 2 * plain.key[:, 0], rtol=1e-6)


def test_a_fraction_leaves_the_last_dimensions_alone(make, rng):
    x = rng.normal(size=(2, 5, 12)).astype(np.float32)
    layer, state = make.build(Rotary.Config(**SIZES, fraction=0.5))
    plain = make.call(FusedQKV.Config(**SIZES).instantiate(), state["inner"], x, None)
    turned = make.call(layer, state, x, None)
    for before, after in ((plain.query, turned.query), (plain.key, turned.key)):
        before = np.asarray(before, np.float64)
        numbers = before[..., :2] + 1j * before[..., 2:4]
        angles = np.arange(5)[:, None, None] * THETA ** (-np.arange(2) / 2)
        numbers = numbers * np.exp(1j * angles)
        expected = np.concatenate([numbers.real, numbers.imag, before[..., 4:]], -1)
        np.testing.assert_allclose(after, expected, atol=1e-5)


@pytest.mark.parametrize("fraction", [0.1, 0.4, 1.5])
def test_a_fraction_that_makes_no_pairs_is_refused(fraction):
    message = rf"head_dim \(=8\) times fraction \(={fraction}\) must be even, more than 0"
    with pytest.raises(BuildError, match=message):
        Rotary.Config(**SIZES, fraction=fraction).instantiate()


def test_llama3_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(
        BuildError, match=r"low_turns \(=4.0\) must be less than high_turns \(=4.0\)"
    ):
        Rotary.Config(**SIZES, frequencies=Llama3Frequencies.Config(low_turns=4)).instantiate()
