"""The contract of data sources."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.errors import UserError
from axlearn_core.testing.contracts.config import ConfigContract
from axlearn_core.training.input import Batch, Input

BATCHES = 6
"""How many batches the tests look at; an example that is shorter is looked at to its end."""
MANY = 10_000
"""Characters of a state that are no longer small."""


class DataSourceContract(ConfigContract):
    """One global order of rows, whoever reads it, and from wherever reading goes on.

    The example has a `batch_size` of 4, which 1, 2 and 4 processes can share. What it reads must
    be where its config says when a test runs: write it in an autouse fixture, anew for each test.
    """

    reads_files: ClassVar[bool] = True  # False: there is nothing that could be damaged

    def damage(self) -> str:
        """Damages a record of what the example reads; returns what the error must name."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a damaged record: define damage(self), change a byte of "
            "what the example reads, and return what the error must say, such as the file's name. "
            "Or set reads_files = False if it reads none"
        )

    def source(self) -> Input:
        source: Input = self.build(self.config())
        return source

    def test_batches_are_as_announced(self) -> None:
        batch = next(self.source().batches())
        assert {
            name: (x.shape, x.dtype) for name, x in batch.items()
        } == self.source().batch_shape()

    def test_the_same_config_gives_the_same_batches(self) -> None:
        first, second = (take(self.source().batches()) for _ in range(2))
        assert_same(first, second)

    @pytest.mark.parametrize("count", [2, 4])
    def test_processes_share_the_rows_without_overlap_or_gap(self, count: int) -> None:
        parts = [
            take(self.source().batches(process_index=index, process_count=count))
            for index in range(count)
        ]
        joined = [
            {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
            for batch in zip(*parts, strict=True)
        ]
        assert_same(joined, take(self.source().batches()))

    def test_it_goes_on_after_any_batch(self) -> None:
        """States are taken between all batches, and read back from JSON by another process."""
        batches, states = self.source().batches(), []
        seen = []
        for _ in range(BATCHES):
            states.append(json.dumps(batches.get_state()))
            seen += list(itertools.islice(batches, 1))
        for done, state in enumerate(states):
            resumed = self.source().batches()
            resumed.set_state(json.loads(state))
            assert_same(list(itertools.islice(resumed, max(len(seen) - done, 0))), seen[done:])

    def test_a_state_is_small_and_serves_any_number_of_processes(self) -> None:
        alone = self.source().batches()
        other = self.source().batches(process_index=1, process_count=2)
        next(alone), next(other)
        assert other.get_state() == alone.get_state()
        assert len(json.dumps(alone.get_state())) < MANY
        other.set_state(alone.get_state())
        following = next(alone)
        assert_same(
            [next(other)], [{name: rows[len(rows) // 2 :] for name, rows in following.items()}]
        )

    def test_processes_that_cannot_share_a_batch_are_refused(self) -> None:
        count = self.config().batch_size + 1
        with pytest.raises(ConfigError, match="batch_size"):
            self.source().batches(process_index=0, process_count=count)

    def test_its_description_is_json_and_always_the_same(self) -> None:
        described = self.source().describe()
        assert json.loads(json.dumps(described)) == self.source().describe()

    def test_a_damaged_record_is_named(self) -> None:
        if not self.reads_files:
            pytest.skip("reads no files")
        expected = self.damage()
        with pytest.raises(UserError) as caught:
            take(self.source().batches())
        assert expected in str(caught.value)


def take(batches: Iterable[Batch]) -> list[Batch]:
    return list(itertools.islice(batches, BATCHES))


def assert_same(batches: list[Batch], others: list[Any]) -> None:
    assert len(batches) == len(others)
    for one, other in zip(batches, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
