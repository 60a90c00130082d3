"""What the trainer expects of data: batches of numpy arrays, and a place to go on from.

Nothing here imports jax, so that preparing and inspecting data does not either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from axlearn_core.config import REQUIRED, ConfigError, Configurable
from axlearn_core.training.tokenizer import Tokenizer

__all__ = ["Batch", "BatchIterator", "BatchShape", "Input", "tokens_per_step"]

Batch = dict[str, NDArray[Any]]
"""Arrays by name, each [rows, ...]; for language models see `axlearn_inputs.rows`."""

BatchShape = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape and dtype of each array of a global batch."""


def tokens_per_step(batch_shape: BatchShape) -> int:
    """Returns the tokens of a global batch, padding included; what is no sequence counts as one."""
    shapes = (dims for dims, _ in batch_shape.values())
    return max(dims[0] * (dims[1] if len(dims) > 1 else 1) for dims in shapes)


class BatchIterator(Protocol):
    """Yields this process's rows of one global batch after another."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, Any]:
        """Returns small JSON: where to go on. The same on every process, for any number of them."""
        ...

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`: the next batch is the one that followed when it was taken."""
        ...


class Input(Configurable):
    """A source of batches. The global order of rows is the same for any number of processes."""

    trains: ClassVar[bool] = True  # False: it has no batches, but a tokenizer

    class Config(Configurable.Config):
        batch_size: int = REQUIRED  # rows per step, over all processes

    def batches(self, *, process_index: int = 0, process_count: int = 1) -> BatchIterator:
        """Returns an iterator over this process's rows: a contiguous slice of each batch.

        Args:
            process_index: of those that read different rows, from 0.
            process_count: how many of them there are. Processes that share rows count as one.
        """
        raise NotImplementedError(type(self))

    def batch_shape(self) -> BatchShape:
        """Returns what a global batch looks like, without reading data."""
        raise NotImplementedError(type(self))

    def describe(self) -> dict[str, Any]:
        """Returns JSON that tells this input's batches from another's.

        A checkpoint remembers it; a run that resumes with another answer would not see the batches
        that follow.
        """
        raise NotImplementedError(type(self))

    def tokenizer(self) -> Tokenizer | None:
        """Returns what maps ids to text, or None if the ids stand for no text."""
        return None

    def characters_per_token(self) -> float | None:
        """Returns the characters of text per target token over one pass, or None without text.

        A loss in nats per token divided by this is one in nats per character, which can be compared
        between tokenizers.
        """
        return None

    def baselines(self) -> dict[str, float]:
        """Returns what general compressors make of the same text, in nats per character, by name.

        A model that has learned something does better.
        """
        return {}

    def figures(self, state: Mapping[str, Any]) -> dict[str, float]:
        """Returns what the state of an iterator says in figures, such as passes over the data.

        They are written with a step's metrics, as `data/NAME`.
        """
        return {}

    def local_rows(self, process_index: int, process_count: int) -> range:
        """Returns which rows of a global batch are this process's."""
        rows, rest = divmod(self.config.batch_size, process_count)
        if rest:
            raise ConfigError(
                f"batch_size (={self.config.batch_size}) must be a multiple of the number of "
                f"processes (={process_count})"
            )
        return range(process_index * rows, (process_index + 1) * rows)
