import numpy as np
import pytest

from axlearn_inputs import RowInput


class Counting(RowInput):
    """Row p holds p, p + 1, p + 2, ..."""

    def rows(self, places):
        return np.array([np.arange(p, p + self.config.seq_len + 1) for p in places], np.int32)


def source(**fields):
    return Counting.default_config().set(seq_len=3, batch_size=4, **fields).instantiate()


def test_rows_follow_each_other_over_batches_and_targets_are_what_follows():
    first, second = source(num_batches=2).batches()
    assert first["input_ids"].tolist() == [[p, p + 1, p + 2] for p in range(4)]
    assert first["target_ids"].tolist() == [[p + 1, p + 2, p + 3] for p in range(4)]
    assert second["input_ids"][:, 0].tolist() == [4, 5, 6, 7]


def test_it_goes_on_where_it_stopped():
    batches, resumed = source().batches(), source().batches()
    next(batches)
    resumed.set_state(batches.get_state())
    assert np.array_equal(next(resumed)["input_ids"], next(batches)["input_ids"])


def test_processes_share_the_rows_of_a_batch():
    parts = [next(source().batches(process_index=i, process_count=2)) for i in range(2)]
    assert np.concatenate([part["input_ids"][:, 0] for part in parts]).tolist() == [0, 1, 2, 3]


def test_it_does_not_say_what_rows_hold():
    batches = RowInput.Config(seq_len=3, batch_size=4).instantiate().batches()
    with pytest.raises(NotImplementedError, match="RowInput"):
        next(batches)
