"""What a tokenizer promises, and how one that must be trained first is described.

Nothing here imports jax, so that preparing data does not either.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
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
    bos_id: int  # stands before a document; -1 is none
    eos_id: int  # stands after a document; may be the same as bos_id
    pad_id: int  # fills rows; never a target

    # For models that chat: a jinja template that writes messages as one text, and the names of
    # special tokens that it may use, such as {"bos_token": "<s>"}.
    chat_template: str | None = None
    special_tokens: Mapping[str, str] = {}
    # All texts that `encode_markup` takes for special ids (those whose piece is None).
    special_names: Sequence[str] = ()

    @abc.abstractmethod
    def encode(self, text: str) -> Ids:
        """Returns the ids of `text`, without bos and eos. No text becomes a special id."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int] | NDArray[Any]) -> str:
        """Returns the text of `ids`. Broken UTF-8 is replaced.

        Left out are special ids, and those from vocab_size on: a model may have more ids than its
        tokenizer, rounded up for its devices, say.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Returns a sha256 that two tokenizers share only if they map alike."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids after which a generated text ends: of documents, or of a turn in a chat."""
        return (self.eos_id,)

    def encode_markup(self, text: str) -> Ids:
        """Returns the ids of text in which names of special tokens stand for these.

        For what a chat template has written, and never for the text of users.
        """
        return self.encode(text)

    def pieces(self) -> list[bytes | None]:
        """Returns the bytes that each id stands for; None is a special id.

        The joined bytes of ids are the UTF-8 of their text, but for what a tokenizer does at the
        beginning of a text.
        """
        raise NotImplementedError(f"{type(self).__qualname__} does not tell its ids' bytes")

    def as_document(self, ids: Ids) -> Ids:
        """Returns bos, `ids`, eos: everything after the bos is something to predict.

        Without a bos, the eos of the document before stands there.
        """
        first = self.bos_id if self.bos_id >= 0 else self.eos_id
        return np.concatenate([[first], ids, [self.eos_id]]).astype(np.int32)


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
