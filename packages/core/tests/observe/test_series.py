import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.observe.series import Series


def series(values, most=64):
    made = Series(most)
    for step, value in enumerate(values):
        made.add(step, value)
    return made


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=500))
def test_the_lowest_the_highest_and_the_newest_value_are_kept(values):
    kept = series(values)
    assert len(kept) <= 64
    assert min(kept.values) == min(values) and max(kept.values) == max(values)
    assert kept.last == values[-1]
    drawn = [value for _, value in kept.points(8)]
    assert len(drawn) <= 8
    assert min(drawn) == min(values) and max(drawn) == max(values)


def test_points_are_left_of_every_part_of_a_long_run():
    steps = series([0.1 * (step % 7) for step in range(100_000)], most=256).steps
    # At least 64 intervals stay: half of the points, two of each, and half as many of longer ones.
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert max(gaps) <= 2 * 100_000 / 64


def test_a_step_that_is_made_again_replaces_it_and_all_later_ones():
    made = series([5.0, 4.0, 3.0, 2.0])
    made.add(1, 4.5)
    assert list(zip(made.steps, made.values, strict=True)) == [(0, 5.0), (1, 4.5)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_kept_beside_the_extremes(value):
    values = [1.0 + step % 3 for step in range(1000)]
    values[500] = value
    kept = series(values)
    assert kept.steps[[math.isfinite(v) for v in kept.values].index(False)] == 500
    assert {1.0, 3.0} <= set(kept.values)


def test_a_metric_that_never_changes_needs_few_points():
    assert len(series([1.0] * 10_000)) <= 64
