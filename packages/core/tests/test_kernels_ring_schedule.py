"""What a ring computes and when, counted by hand."""

from __future__ import annotations

import pytest

from axlearn_core.kernels import BlockKind, causal, full, same_segment, window
from axlearn_core.kernels.ring_schedule import balanced, contiguous, schedule


def test_causal_blocks_are_balanced() -> None:
    plan = schedule(causal(), 64, 64, devices=4)
    assert plan.layout == ((0, 7), (1, 6), (2, 5), (3, 4))
    assert [turn.cost for turn in plan.turns] == [3, 2, 2, 2]  # of 4 pairs
    # Every device computes as much as the busiest one, in every turn.
    for turn in plan.turns:
        work = [
            sum(
                pair.kinds[choices[device]] is not BlockKind.EMPTY
                for pair, choices in zip(turn.pairs, turn.choices, strict=True)
            )
            for device in range(4)
        ]
        assert set(work) == {turn.cost}


def test_what_needs_no_balance_stays_where_it_is() -> None:
    plan = schedule(full(), 64, 64, devices=4)
    assert plan.layout == contiguous(4)
    assert not plan.moves
    assert plan.cost == 16


def test_a_short_window_needs_one_neighbour() -> None:
    plan = schedule(causal() & window(16), 64, 64, devices=4)
    assert plan.layout == contiguous(4)
    assert [turn.shift for turn in plan.turns] == [0, 1]
    assert plan.home == -1


def test_a_window_that_looks_both_ways_skips_the_far_devices() -> None:
    plan = schedule(window(5), 128, 128, devices=8)
    assert [(turn.shift, turn.hop) for turn in plan.turns] == [(0, 1), (1, 6), (7, 0)]


def test_segments_are_known_only_when_running() -> None:
    plan = schedule(causal() & same_segment(), 64, 64, devices=2)
    assert {kind for turn in plan.turns for pair in turn.pairs for kind in pair.kinds} == {
        BlockKind.EMPTY,
        BlockKind.PARTIAL,
    }


def test_a_mask_that_allows_nothing_takes_no_work() -> None:
    (turn,) = schedule(~full(), 64, 64, devices=2).turns
    assert (turn.cost, turn.hop) == (0, 0)


def test_keys_travel_first_where_only_far_ones_are_allowed() -> None:
    first, *others = schedule(~window(17), 64, 64, devices=4).turns
    assert (first.shift, first.hop, first.pairs) == (0, 1, ())
    assert [turn.shift for turn in others] == [1, 2, 3]


@pytest.mark.parametrize("layout", [contiguous, balanced])
def test_a_layout_gives_every_chunk_to_one_device(layout) -> None:
    assert sorted(chunk for chunks in layout(8) for chunk in chunks) == list(range(16))
    assert all(first % 2 != second % 2 for first, second in layout(8))
