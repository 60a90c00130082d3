"""Schedules: exact at their boundaries, monotone in each phase."""

import math

import jax
import numpy as np
import pytest

from axlearn_core.config import ConfigError, MissingFieldsError
from axlearn_learners import (
    Constant,
    InverseSquareRoot,
    OptaxLearner,
    Phase,
    Phases,
    Piecewise,
    WarmupCosine,
    WarmupLinear,
    WarmupStableDecay,
)

PEAK = np.float32(3e-4)


def cosine(**fields):
    return WarmupCosine.Config(**{"peak": 3e-4, "total_steps": 100, **fields}).instantiate()


def stable(**fields):
    return WarmupStableDecay.Config(**{"peak": 3e-4, "total_steps": 100, **fields}).instantiate()


def linear(**fields):
    return WarmupLinear.Config(**{"peak": 3e-4, "total_steps": 100, **fields}).instantiate()


def root(**fields):
    return InverseSquareRoot.Config(**{"peak": 3e-4, "total_steps": 100, **fields}).instantiate()


def rates(schedule, count=101):
    return np.asarray(jax.vmap(schedule)(np.arange(count)))


def test_constant_is_the_same_rate_at_every_step():
    assert (rates(Constant.Config(value=3e-4).instantiate()) == PEAK).all()


@pytest.mark.parametrize("make", [cosine, stable, linear, root])
def test_first_update_has_the_first_part_of_the_warm_up(make):
    np.testing.assert_allclose(make(warmup=9)(0), PEAK / 10, rtol=1e-6)


@pytest.mark.parametrize("make", [cosine, stable, linear, root])
def test_warm_up_ends_at_exactly_the_peak(make):
    assert make(warmup=10)(10) == PEAK


@pytest.mark.parametrize("make", [cosine, stable, linear, root])
def test_warm_up_is_still_below_the_peak_one_step_before_its_end(make):
    np.testing.assert_allclose(make(warmup=10)(9), PEAK * 10 / 11, rtol=1e-6)


@pytest.mark.parametrize("make", [cosine, stable, linear, root])
def test_without_warm_up_the_first_update_has_the_peak(make):
    assert make()(0) == PEAK


@pytest.mark.parametrize("make", [cosine, stable, linear])
def test_rate_is_zero_right_after_the_last_update(make):
    assert make()(100) == 0


@pytest.mark.parametrize("make", [cosine, stable, linear])
def test_last_update_has_a_rate_above_the_final_one(make):
    assert make(final_fraction=0.1)(99) > PEAK / 10


@pytest.mark.parametrize("make", [cosine, stable, linear])
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


@pytest.mark.parametrize("make", [cosine, stable, linear])
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


@pytest.mark.parametrize("peak", [0.0, -1.0])
def test_a_peak_that_is_not_positive_is_refused(peak):
    with pytest.raises(ConfigError, match="freeze a group"):
        cosine(peak=peak)


def test_a_negative_constant_is_refused():
    with pytest.raises(ConfigError, match="climb"):
        Constant.Config(value=-1.0).instantiate()


def test_linear_decay_is_a_line_from_the_warm_up_to_the_end():
    schedule = linear(warmup=20, final_fraction=0.5)
    np.testing.assert_allclose(rates(schedule)[[20, 60, 100]], PEAK * np.array([1, 0.75, 0.5]))


def test_inverse_square_root_equals_the_papers_formula():
    # Vaswani et al. count steps from 1: width^-0.5 * min(step^-0.5, step * warmup^-1.5).
    width, warmup = 512, 40
    steps = np.arange(1, 102)
    expected = width**-0.5 * np.minimum(steps**-0.5, steps * warmup**-1.5)
    schedule = root(peak=(width * warmup) ** -0.5, warmup=warmup - 1)
    np.testing.assert_allclose(rates(schedule), expected, rtol=1e-5)


def test_inverse_square_root_stops_at_the_final_fraction():
    np.testing.assert_allclose(root(final_fraction=0.5)(99), PEAK / 2, rtol=1e-6)


# Made of parts.


def piecewise(**fields):
    return Piecewise.Config(**{"steps": [2, 4, 8], "rates": [1.0, 3.0, 2.0], **fields})


def test_piecewise_draws_lines_between_its_points():
    got = rates(piecewise().instantiate(), 10)
    np.testing.assert_allclose(got, [1, 1, 1, 2, 3, 2.75, 2.5, 2.25, 2, 2])


def test_piecewise_with_jumps_keeps_each_rate_until_the_next_step():
    got = rates(piecewise(jumps=True).instantiate(), 10)
    np.testing.assert_array_equal(got, [1, 1, 1, 1, 3, 3, 3, 3, 2, 2])


def test_piecewise_of_unequal_lists_is_refused():
    with pytest.raises(ConfigError, match="write one rate for each step"):
        piecewise(rates=[1.0]).instantiate()


def test_piecewise_steps_that_do_not_rise_are_refused():
    with pytest.raises(ConfigError, match="must rise"):
        piecewise(steps=[2, 2, 8]).instantiate()


def test_piecewise_beyond_the_run_is_refused():
    with pytest.raises(ConfigError, match=r"beyond the run, total_steps \(=6\)"):
        piecewise(total_steps=6).instantiate()


def phases(total_steps=100, **parts):
    return Phases.Config(total_steps=total_steps, phases=parts)


WARMUP = Piecewise.Config(steps=[0, 10], rates=[0.0, 1.0])


def test_phases_follow_one_another_each_from_its_own_step_0():
    schedule = phases(
        warmup=Phase(schedule=WARMUP, steps=10),
        stable=Phase(schedule=Constant.Config(value=1.0)),
        decay=Phase(schedule=WarmupLinear.Config(peak=1.0), steps=0.2),
    ).instantiate()
    expected = [0, 0.9, 1, 1, 1, 0.5, 0]
    np.testing.assert_allclose(rates(schedule)[[0, 9, 10, 79, 80, 90, 100]], expected, atol=1e-6)


def test_a_schedule_in_a_phase_spans_the_phase_and_not_the_learners_run():
    cfg = OptaxLearner.default_config().set(total_steps=100)
    cfg.optimizer.learning_rate = phases(
        None,
        all=Phase(schedule=WarmupLinear.Config(peak=1.0), steps=50),
        rest=Phase(schedule=WARMUP),
    )
    schedule = cfg.instantiate(specs={}).optimizer.learning_rate
    np.testing.assert_allclose(schedule(25), 0.5)


def test_phases_that_do_not_fill_the_run_are_refused():
    with pytest.raises(ConfigError, match=r"a \(=60\), b \(=50\) must fill total_steps \(=100\)"):
        phases(a=Phase(schedule=WARMUP, steps=60), b=Phase(schedule=WARMUP, steps=50)).instantiate()


def test_a_phase_that_rounds_to_no_step_is_refused():
    with pytest.raises(ConfigError, match=r"phases\['a'\].steps \(=0.001 of 100\)"):
        phases(a=Phase(schedule=WARMUP, steps=0.001), b=Phase(schedule=WARMUP)).instantiate()


def test_only_one_phase_may_take_what_is_left():
    with pytest.raises(ConfigError, match="only one phase"):
        phases(a=Phase(schedule=WARMUP), b=Phase(schedule=WARMUP)).instantiate()


def test_a_warm_up_longer_than_its_phase_is_refused_with_the_path():
    short = Phase(schedule=WarmupCosine.Config(peak=1.0, warmup=20), steps=10)
    with pytest.raises(ConfigError, match=r"phases.*short.*warmup \(=20 steps\) must not"):
        phases(short=short, rest=Phase(schedule=WARMUP)).instantiate()
