"""A data source: batches, and a place to go on from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.training.input import Batch, BatchIterator, BatchShape, Input
from axlearn_inputs import Tokenizer, batch_shape, empty_batch, fill_row
from numpy.typing import NDArray

from acme_sums.tokenizer import AlphabetTokenizer


class Sums(Input):
    """Sums of two random numbers, such as 34+8=42, packed into rows.

    Only the answers (with the end of the document) are targets: nobody can foresee a question. A
    row is a function of the seed and of its place in the global order. So any number of processes
    sees the same batches, and the number of batches so far is all there is to remember.
    """

    class Config(Input.Config):
        seq_len: int = REQUIRED  # targets per row
        digits: int = 2  # of the largest number to be added
        seed: int = 0
        num_batches: int | None = None  # None: without end
        tokenizer: Tokenizer.Config = AlphabetTokenizer.default_config()

    def __init__(self, config: Config):
        super().__init__(config)
        self._tokenizer: Tokenizer = config.tokenizer.instantiate()
        if config.digits < 1:
            raise ConfigError(f"digits (={config.digits}) must be at least 1")
        largest = 10**config.digits - 1
        needed = len(self._document(largest, largest)) - 1
        if config.seq_len < needed:
            raise ConfigError(
                f"seq_len (={config.seq_len}) must hold the longest sum of {config.digits} digits, "
                f"which takes {needed} tokens"
            )

    def batches(self, *, process_index: int = 0, process_count: int = 1) -> BatchIterator:
        return _Batches(self, self.local_rows(process_index, process_count))

    def batch_shape(self) -> BatchShape:
        return batch_shape(self.config.batch_size, self.config.seq_len)

    def describe(self) -> dict[str, Any]:
        return {**dict(self.config.items()), "tokenizer": self._tokenizer.fingerprint()}

    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def batch(self, places: range) -> Batch:
        """Returns the rows at some places of the global order."""
        made = empty_batch(len(places), self.config.seq_len, self._tokenizer.pad_id)
        for index, place in enumerate(places):
            documents = list(self._documents(place))
            fill_row(made, index, documents)
            asked = np.concatenate([self._is_asked(ids) for ids in documents])
            made["target_weights"][index, : len(asked)] -= asked
        return made

    def _documents(self, place: int) -> Iterator[NDArray[np.int32]]:
        """Yields sums as long as the row has room for the next."""
        random = np.random.default_rng([self.config.seed, place])
        room = self.config.seq_len
        while True:
            first, second = random.integers(10**self.config.digits, size=2)
            ids = self._document(first, second)
            room -= len(ids) - 1
            if room < 0:
                return
            yield ids

    def _document(self, first: int, second: int) -> NDArray[np.int32]:
        text = f"{first}+{second}={first + second}"
        return self._tokenizer.as_document(self._tokenizer.encode(text))

    def _is_asked(self, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Says which targets of a document are its question: all up to the equals sign."""
        (sign,) = self._tokenizer.encode("=")
        end = int(np.flatnonzero(ids == sign)[0])
        return np.arange(1, len(ids)) <= end


class _Batches:
    """Counts batches; that is all of its state."""

    def __init__(self, source: Sums, rows: range):
        self._source, self._rows, self._next = source, rows, 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        cfg = self._source.config
        if self._next == cfg.num_batches:
            raise StopIteration
        start = self._next * cfg.batch_size
        self._next += 1
        return self._source.batch(range(start + self._rows.start, start + self._rows.stop))

    def get_state(self) -> dict[str, Any]:
        return {"next_index": self._next}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._next = int(state["next_index"])
