"""Schedules: exact at their boundaries, monotone in each phase."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.config import ConfigError, MissingFieldsError
from axlearn_learners import Constant, WarmupCosine, WarmupStableDecay

PEAK = np.float32(3e-4)


def cosine(**fields):
    return WarmupCosine.Config(**{"peak": 3e-4, "total_steps": 100, **fields}).instantiate()


def stable(**fields):
    return WarmupStableDecay.Config(**{"peak": 3e-4, "total_steps": 100, **fields}).instantiate()


def rates(schedule, count=101):
    return np.asarray(jax.vmap(schedule)(np.arange(count)))


def test_constant_is_the_same_rate_at_every_step():
    assert (rates(Constant.Config(value=3e-4).instantiate()) == PEAK).all()


@pytest.mark.parametrize("make", [cosine, stable])
def test_first_update_has_the_first_part_of_the_warm_up(make):
    np.testing.assert_allclose(make(warmup=9)(0), PEAK / 10, rtol=1e-6)


@pytest.mark.parametrize("make", [cosine, stable])
def test_warm_up_ends_at_exactly_the_peak(make):
    assert make(warmup=10)(10) == PEAK


@pytest.mark.parametrize("make", [cosine, stable])
def test_warm_up_is_still_below_the_peak_one_step_before_its_end(make):
    np.testing.assert_allclose(make(warmup=10)(9), PEAK * 10 / 11, rtol=1e-6)


@pytest.mark.parametrize("make", [cosine, stable])
def test_without_warm_up_the_first_update_has_the_peak(make):
    assert make()(0) == PEAK


@pytest.mark.parametrize("make", [cosine, stable])
def test_rate_is_zero_right_after_the_last_update(make):
    assert make()(100) == 0


@pytest.mark.parametrize("make", [cosine, stable])
def test_last_update_has_a_rate_above_the_final_one(make):
    assert make(final_fraction=0.1)(99) > PEAK / 10


@pytest.mark.parametrize("make", [cosine, stable])
def test_final_rate_is_the_fraction_of_the_peak_and_stays(make):
    schedule = make(final_fraction=0.1)
    np.testing.assert_allclose([schedule(100), schedule(500)], PEAK * 0.1, rtol=1e-6)


def test_cosine_is_half_way_down_in_the_middle():
    schedule = cosine(warmup=20, final_fraction=0.2)
    np.testing.assert_allclose(schedule(60), PEAK * 0.6, rtol=1e-6)


def test_cosine_equals_the_formula_in_float64():
    schedule = cosine(warmup=10, final_fraction=0.1)
    expected = [
        3e-4 * (0.1 + 0.9 * (1 + math.cos(math.pi * (s - 10) / 90)) / 2) for s in range(10, 101)
    ]
    # float32 cosine near its minimum is exact to an ulp of 1, that is 6e-8 of the peak.
    np.testing.assert_allclose(rates(schedule)[10:], expected, rtol=1e-5, atol=1e-10)


def test_plateau_lasts_until_the_decay_begins():
    schedule = stable(warmup=10, decay=20)
    assert (rates(schedule)[10:81] == PEAK).all()
    assert schedule(81) < PEAK


def test_decay_is_linear():
    schedule = stable(warmup=10, decay=20)
    np.testing.assert_allclose(schedule(95), PEAK * 5 / 20, rtol=1e-6)


def test_lengths_below_one_are_fractions_of_the_run():
    assert (rates(stable(warmup=0.1, decay=0.2)) == rates(stable(warmup=10, decay=20))).all()


def test_schedule_works_on_a_traced_step():
    schedule = cosine(warmup=10)
    assert jax.jit(schedule)(7) == schedule(7)


@pytest.mark.parametrize("make", [cosine, stable])
def test_a_schedule_without_a_length_asks_for_it(make):
    with pytest.raises(ConfigError, match="total_steps is not set"):
        make(total_steps=None)


def test_a_schedule_without_a_peak_asks_for_it():
    with pytest.raises(MissingFieldsError, match="peak"):
        WarmupCosine.default_config().instantiate()


def test_warm_up_longer_than_the_run_is_refused_with_a_way_out():
    with pytest.raises(ConfigError, match=r"warmup \(=2000 steps\) .* write a fraction"):
        cosine(warmup=2000)


def test_warm_up_and_decay_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"warmup \(=60 steps\) and decay \(=50 steps\)"):
        stable(warmup=60, decay=0.5)


@pytest.mark.parametrize("warmup", [-1, 1.5])
def test_a_length_that_is_neither_fraction_nor_steps_is_refused(warmup):
    with pytest.raises(ConfigError, match="whole number of steps"):
        cosine(warmup=warmup)


def test_a_final_fraction_above_one_is_refused():
    with pytest.raises(ConfigError, match="from 0 to 1"):
        cosine(final_fraction=1.5)


# Durations say nothing here: the first example of a shape compiles.
quick = settings(deadline=None, max_examples=40)
lengths = st.tuples(st.integers(1, 300), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 1))


@quick
@given(lengths)
def test_no_schedule_is_ever_above_its_peak_or_negative(drawn):
    total, warmup, decay, final = drawn
    for schedule in (
        cosine(total_steps=total, warmup=warmup, final_fraction=final),
        stable(total_steps=total, warmup=warmup, decay=decay, final_fraction=final),
    ):
        values = rates(schedule, 301)
        assert values.max() <= PEAK
        assert values.min() >= 0


@quick
@given(lengths)
def test_rates_rise_through_the_warm_up_and_never_afterwards(drawn):
    total, warmup, decay, final = drawn
    peak_at = round(warmup * total)
    for schedule in (
        cosine(total_steps=total, warmup=warmup, final_fraction=final),
        stable(total_steps=total, warmup=warmup, decay=min(decay, 0.4), final_fraction=final),
    ):
        change = np.diff(rates(schedule, 301))
        rise = min(peak_at, 300)
        assert (change[:rise] >= 0).all()
        assert (change[rise:] <= 0).all()


@quick
@given(st.integers(1, 200), st.floats(0, 0.5))
def test_no_update_has_a_rate_of_zero(total, warmup):
    assert (rates(cosine(total_steps=total, warmup=warmup), 300)[:total] > 0).all()
