"""Prompts are brought into right-padded rows, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axlearn_inference.prompts import from_lists, from_rows, to_rows

IDS = np.array([[0, 0, 3, 4, 5], [6, 7, 8, 9, 0], [1, 2, 3, 4, 0]])
SEGMENTS = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 2, 2, 0]])


def test_left_padded_right_padded_and_packed_rows_begin_at_the_left():
    prompts = from_rows(IDS, SEGMENTS)
    assert prompts.input_ids.tolist() == [
        [3, 4, 5, 0],
        [6, 7, 8, 9],
        [1, 2, 0, 0],
        [3, 4, 0, 0],
    ]
    assert prompts.lengths.tolist() == [3, 4, 2, 2]
    assert prompts.rows.tolist() == [0, 1, 2, 2]


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_what_goes_back_stands_where_it_came_from(segments, seed):
    ids = np.random.default_rng(seed).integers(1, 50, size=np.shape(segments))
    prompts = from_rows(ids, segments)
    back = to_rows(prompts.input_ids, prompts, *ids.shape)
    np.testing.assert_array_equal(back, np.where(segments, ids, 0))
    assert prompts.lengths.sum() == np.count_nonzero(segments)


def test_values_of_any_shape_go_back():
    prompts = from_rows(IDS, SEGMENTS)
    values = np.stack([prompts.input_ids, 2 * prompts.input_ids], axis=-1)
    back = to_rows(values, prompts, *IDS.shape)
    np.testing.assert_array_equal(back, np.stack([IDS, 2 * IDS], axis=-1))


def test_lists_are_padded_to_the_longest_or_further():
    assert from_lists([[1, 2], [3]]).input_ids.tolist() == [[1, 2], [3, 0]]
    assert from_lists([[1], []], seq=3).input_ids.tolist() == [[1, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match=r"seq \(=1\) must be at least the longest prompt's 2 ids"):
        from_lists([[1, 2]], seq=1)
