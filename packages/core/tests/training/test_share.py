"""Which block of a batch a process reads, from the rows that its devices hold."""

import pytest

from axlearn_core.training.share import BatchShare, smallest_block


@pytest.mark.parametrize(
    ("low", "high", "rows", "expected"),
    [
        (0, 8, 8, BatchShare(0, 1)),  # one process
        (4, 8, 8, BatchShare(1, 2)),  # its own half
        (6, 7, 8, BatchShare(6, 8)),
        (1, 3, 8, BatchShare(0, 2)),  # not aligned: the half around it
        (3, 5, 8, BatchShare(0, 1)),  # over the middle: everything
        (2, 4, 6, BatchShare(1, 3)),
    ],
)
def test_it_is_the_smallest_of_equal_blocks_around_them(low, high, rows, expected):
    assert smallest_block(low, high, rows) == expected
