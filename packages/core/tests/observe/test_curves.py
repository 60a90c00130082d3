import math

import pytest

from axlearn_core.observe.curves import draw


def shape(*curves, width=4, height=1, **options):
    return [row for row, _ in draw(curves, width, height, **options).rows]


def test_a_line_goes_from_the_upper_left_to_the_lower_right():
    assert shape([(0, 7.0), (7, 0.0)], width=4, height=2) == ["⠑⢄  ", "  ⠑⢄"]


def test_a_spike_between_two_columns_is_seen():
    values = [(step, 9.0 if step == 500 else 0.0) for step in range(1001)]
    assert shape(values, width=9) == ["⣀⣀⣀⣀⣇⣀⣀⣀⣀"]


def test_a_frame_has_the_ranges_of_all_curves():
    picture = draw([[(5, 1.0), (6, 2.0)], [(1, -3.0)], []], 10, 3)
    assert picture is not None
    assert (picture.first, picture.last, picture.low, picture.high) == (1, 6, -3.0, 2.0)
    owners = {owner for _, row in picture.rows for owner in row}
    assert owners == {-1, 0, 1}


def test_a_frame_reaches_down_to_its_floor():
    assert shape([(0, 10.0), (7, 10.0)], floor=0.0) == ["⠉⠉⠉⠉"]


@pytest.mark.parametrize("value", [0.0, 2.5, -1e300])
def test_a_curve_of_one_value_is_drawn(value):
    assert shape([(3, value)])[0].strip()


def test_values_that_are_not_finite_leave_no_dots():
    assert shape([(0, 1.0), (1, math.nan), (2, math.inf), (7, 1.0)]) == shape([(0, 1.0), (7, 1.0)])


def test_nothing_is_drawn_of_nothing():
    assert draw([[], [(1, math.nan)]], 10, 3) is None
