"""What a tokenizer promises, and how one that must be trained first is described."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axlearn_core.config import Configurable

Ids = NDArray[np.int32]


class Tokenizer(Configurable, abc.ABC):
    """Maps text to token ids and back: `decode(encode(text)) == text` for every text."""

    class Config(Configurable.Config):
        """A tokenizer's fields."""

    vocab_size: int  # ids are in [0, vocab_size)
    bos_id: int  # stands before a document
    eos_id: int  # stands after a document; may be the same as bos_id
    pad_id: int  # fills rows; never a target

    @abc.abstractmethod
    def encode(self, text: str) -> Ids:
        """Returns the ids of `text`, without bos and eos."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int] | NDArray[Any]) -> str:
        """Returns the text of `ids`. Special ids are left out, broken UTF-8 is replaced."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Returns a sha256 that two tokenizers share only if they map alike."""

    def as_document(self, ids: Ids) -> Ids:
        """Returns bos, `ids`, eos: everything after the bos is something to predict."""
        return np.concatenate([[self.bos_id], ids, [self.eos_id]]).astype(np.int32)


class TokenizerTrainer(Configurable, abc.ABC):
    """Makes a tokenizer from the text that is being prepared, and loads it again."""

    class Config(Configurable.Config):
        """A trainer's fields."""

    @abc.abstractmethod
    def train(self, texts: Iterable[str], directory: Path) -> Tokenizer:
        """Trains on `texts`, writes the tokenizer's files into `directory` and returns it.

        The same texts give the same tokenizer, to the byte.
        """

    @abc.abstractmethod
    def load(self, directory: Path) -> Tokenizer:
        """Returns the tokenizer that `train` wrote into `directory`."""
