"""Batches that are placed ahead of their use."""

import threading

import numpy as np
import pytest

from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh
from axlearn_core.training.prefetch import Prefetcher
from axlearn_core.training.share import place_batch


class Source:
    """Batches 0, 1, 2, ...; before number `fails_at` it raises."""

    def __init__(self, fails_at=None, error=StopIteration):
        self.made, self.fails_at, self.error = 0, fails_at, error

    def __iter__(self):
        return self

    def __next__(self):
        if self.made == self.fails_at:
            raise self.error
        self.made += 1
        return {"x": np.full((8, 2), self.made - 1)}

    def get_state(self):
        return {"made": self.made}

    def set_state(self, state):
        self.made = state["made"]


@pytest.fixture
def placement():
    return Placement(make_mesh({"data": -1}), DEFAULT_RULES)


@pytest.fixture
def prefetch(placement):
    made = []

    def prefetch(*args, **kwargs):
        made.append(Prefetcher(Source(*args, **kwargs), placement))
        return made[-1]

    yield prefetch
    for prefetcher in made:
        prefetcher.close()


def test_batches_come_in_order(prefetch):
    batches = prefetch()
    assert [int(next(batches)[0]["x"][0, 0]) for _ in range(10)] == list(range(10))


def test_the_input_state_is_that_after_the_batch_not_that_of_the_reader_ahead(prefetch):
    batches = prefetch()
    assert [next(batches)[1] for _ in range(5)] == [{"made": n} for n in range(1, 6)]


def test_rows_are_split_over_the_data_axis(placement):
    placed = place_batch(next(Source()), placement)["x"]
    assert {shard.data.shape for shard in placed.addressable_shards} == {(1, 2)}
    np.testing.assert_array_equal(placed, np.zeros((8, 2)))


def test_the_end_comes_after_the_last_batch(prefetch):
    assert len(list(prefetch(3))) == 3


def test_an_error_of_the_input_reaches_the_consumer_after_the_batches_before_it(prefetch):
    batches = prefetch(2, OSError("the disk is gone"))
    next(batches), next(batches)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_after_its_end_it_raises_again_instead_of_waiting(prefetch):
    batches = prefetch(0)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(batches)


@pytest.mark.parametrize("fails_at", [None, 0, 3])
def test_close_ends_the_thread(prefetch, fails_at):
    before = threading.active_count()
    batches = prefetch(fails_at)
    batches.close()
    assert threading.active_count() == before


def test_close_can_be_repeated(prefetch):
    batches = prefetch()
    batches.close()
    batches.close()


def test_the_time_that_the_consumer_waits_is_counted(prefetch):
    batches = prefetch()
    next(batches)
    assert batches.waited > 0
