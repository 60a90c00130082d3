"""What holds for schedules of any length: from 0 to the peak, without leaps, by fractions."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

# Durations say nothing here: the first example of a shape compiles.
quick = settings(deadline=None, max_examples=12)
PEAK = np.float32(3e-4)
KINDS = (WarmupCosine, WarmupLinear, WarmupStableDecay, InverseSquareRoot)
every_kind = pytest.mark.parametrize("kind", KINDS)
lengths = st.tuples(st.integers(1, 300), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 1))


def made(kind, drawn):
    total, warmup, decay, final = drawn
    fields = {"peak": 3e-4, "total_steps": total, "warmup": warmup, "final_fraction": final}
    if kind is WarmupStableDecay:
        fields["decay"] = min(decay, 0.4)  # so that both fit, rounded up
    return kind.Config(**fields).instantiate()


def rates(schedule):
    """Of one number of steps for all lengths, since each other one compiles."""
    return np.asarray(jax.vmap(schedule)(np.arange(301)))


@every_kind
@quick
@given(lengths)
def test_no_rate_is_above_the_peak_or_negative(kind, drawn):
    values = rates(made(kind, drawn))
    assert values.max() <= PEAK
    assert values.min() >= 0


@every_kind
@quick
@given(lengths)
def test_rates_rise_through_the_warm_up_and_never_afterwards(kind, drawn):
    change = np.diff(rates(made(kind, drawn)))
    rise = min(round(drawn[1] * drawn[0]), 300)
    assert (change[:rise] >= 0).all()
    assert (change[rise:] <= 0).all()


@every_kind
@quick
@given(lengths)
def test_no_update_has_a_rate_of_zero(kind, drawn):
    assert (rates(made(kind, drawn))[: drawn[0]] > 0).all()


@every_kind
@quick
@given(lengths)
def test_rates_change_by_no_more_than_the_steepest_phase_does(kind, drawn):
    total, warmup, decay, final = drawn
    rise = round(warmup * total)
    fall = max(round(min(decay, 0.4) * total) if kind is WarmupStableDecay else total - rise, 1)
    steepest = {
        WarmupCosine: np.pi / 2 * (1 - final) / fall,
        WarmupLinear: (1 - final) / fall,
        WarmupStableDecay: (1 - final) / fall,
        InverseSquareRoot: 0.5 / (rise + 1),
    }[kind]
    limit = PEAK * max(steepest, 1 / (rise + 1) if rise else 0)
    # A rate is exact to some units in the last place of the peak.
    assert np.abs(np.diff(rates(made(kind, drawn)))).max() <= limit + 1e-6 * PEAK


@every_kind
@quick
@given(st.integers(1, 6), st.integers(1, 5))
def test_fractions_follow_the_length_that_the_learner_gives(kind, tens, times):
    def schedule(total):
        learner = OptaxLearner.default_config().set(total_steps=total)
        learner.optimizer.learning_rate = kind.Config(peak=1.0, warmup=0.3)
        return learner.instantiate(specs={}).optimizer.learning_rate

    for total in (10 * tens, 10 * tens * times):
        values = rates(schedule(total))[:total]
        assert values.argmax() == 3 * total // 10


points = st.lists(
    st.tuples(st.integers(0, 100), st.floats(0, 1, width=32)),
    min_size=4,  # one number of points compiles once
    max_size=4,
    unique_by=lambda point: point[0],
).map(sorted)


@quick
@given(points)
def test_piecewise_stays_between_its_rates_and_moves_along_its_lines(drawn):
    steps, values = map(list, zip(*drawn, strict=True))
    got = rates(Piecewise.Config(steps=steps, rates=values).instantiate())
    assert min(values) - 1e-6 <= got.min() <= got.max() <= max(values) + 1e-6
    lines = itertools.pairwise(drawn)
    steepest = max((abs((d - b) / (c - a)) for (a, b), (c, d) in lines), default=0)
    assert np.abs(np.diff(got)).max() <= steepest + 1e-6
    np.testing.assert_allclose(got[steps], values, atol=1e-6)


@quick
@given(st.integers(4, 300), st.floats(0.1, 0.4))
def test_phases_that_meet_at_one_rate_have_no_leap_between_them(total, fraction):
    warmup = round(fraction * total) or 1
    phases = {
        "warmup": Phase(
            schedule=Piecewise.Config(steps=[0, warmup], rates=[0.0, 1.0]), steps=warmup
        ),
        "plateau": Phase(schedule=Constant.Config(value=1.0)),
        "decay": Phase(schedule=WarmupLinear.Config(peak=1.0), steps=warmup),
    }
    got = rates(Phases.Config(phases=phases, total_steps=total).instantiate())[: total + 1]
    assert np.abs(np.diff(got)).max() <= 1 / warmup + 1e-6
    assert (got[0], got[warmup], got[total]) == (0, 1, 0)
