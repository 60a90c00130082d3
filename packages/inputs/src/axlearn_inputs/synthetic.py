"""Tokens without files: a random Markov chain, which a model can learn and a test can predict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.training.input import Batch, BatchIterator, BatchShape, Input
from axlearn_inputs.rows import batch_shape, empty_batch, fill_row


class SyntheticInput(Input):
    """Rows of a first-order Markov chain in which each token has `branching` possible successors.

    They are equally likely, so no model can have a loss below ln(branching), and one that has
    learned the chain has that. Each row is a function of the seed and of its place in the global
    order.
    """

    class Config(Input.Config):
        vocab_size: int = REQUIRED
        seq_len: int = REQUIRED
        branching: int = 4  # successors per token
        seed: int = 0
        num_batches: int | None = None  # None: without end

    def __init__(self, config: Config):
        super().__init__(config)
        if not 1 <= config.branching <= config.vocab_size:
            raise ConfigError(
                f"branching (={config.branching}) must be from 1 to vocab_size "
                f"(={config.vocab_size}): a token's successors are different"
            )

    def batches(self, *, process_index: int = 0, process_count: int = 1) -> BatchIterator:
        return _Batches(self, self.local_rows(process_index, process_count))

    def batch_shape(self) -> BatchShape:
        return batch_shape(self.config.batch_size, self.config.seq_len)

    def describe(self) -> dict[str, Any]:
        return dict(self.config.items())

    @property
    def lowest_loss(self) -> float:
        """The loss of a model that knows the chain, in nats per token."""
        return math.log(self.config.branching)

    def rows(self, places: range) -> NDArray[np.int32]:
        """Returns the ids at `places` of the global order, [len(places), seq_len + 1]."""
        cfg = self.config
        # All choices of a row are drawn from the row's own stream; the chain then runs for all
        # rows at once.
        streams = [np.random.default_rng([cfg.seed, place]) for place in places]
        token = np.array([stream.integers(cfg.vocab_size) for stream in streams])
        choices = np.array([stream.integers(cfg.branching, size=cfg.seq_len) for stream in streams])
        ids = np.empty((len(places), cfg.seq_len + 1), np.int32)
        ids[:, 0] = token
        for step in range(cfg.seq_len):
            token = ids[:, step + 1] = self._successors[token, choices[:, step]]
        return ids

    @cached_property
    def _successors(self) -> NDArray[np.int32]:
        cfg = self.config
        stream = np.random.default_rng(cfg.seed)
        # Distinct offsets from a random place give each token distinct successors.
        place = stream.permutation(cfg.vocab_size)
        offsets = stream.choice(cfg.vocab_size, cfg.branching, replace=False)
        return ((place[:, None] + offsets) % cfg.vocab_size).astype(np.int32)


class _Batches:
    """Counts batches; that is all of its state."""

    def __init__(self, source: SyntheticInput, rows: range):
        self._source, self._rows, self._next = source, rows, 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        cfg = self._source.config
        if cfg.num_batches is not None and self._next >= cfg.num_batches:
            raise StopIteration
        start = self._next * cfg.batch_size
        batch = empty_batch(len(self._rows), cfg.seq_len, pad_id=0)
        places = range(start + self._rows.start, start + self._rows.stop)
        for index, ids in enumerate(self._source.rows(places)):
            fill_row(batch, index, [ids])
        self._next += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"next_index": self._next}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._next = int(state["next_index"])
