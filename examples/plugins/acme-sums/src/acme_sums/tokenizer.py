"""A tokenizer: text to ids and back, with a config."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from axlearn_core.config import ConfigError
from axlearn_core.errors import UserError
from axlearn_inputs import Tokenizer
from numpy.typing import NDArray


class AlphabetTokenizer(Tokenizer):
    """A token per character of a closed alphabet, in its order, and two special ids.

    The id after the last character stands between documents (bos and eos at once), the one after
    that is padding. Other characters are an error.
    """

    class Config(Tokenizer.Config):
        alphabet: str = "0123456789+="

    def __init__(self, config: Config):
        super().__init__(config)
        alphabet = config.alphabet
        if not alphabet or len(set(alphabet)) < len(alphabet):
            raise ConfigError(f"alphabet (={alphabet!r}) must have characters, each of them once")
        self._ids = {character: index for index, character in enumerate(alphabet)}
        self.bos_id = self.eos_id = len(alphabet)
        self.pad_id = len(alphabet) + 1
        self.vocab_size = len(alphabet) + 2

    def encode(self, text: str) -> NDArray[np.int32]:
        if unknown := sorted(set(text) - self._ids.keys()):
            raise UserError(
                f"{', '.join(map(repr, unknown))} in {text!r} is not in the alphabet "
                f"{self.config.alphabet!r}; write only its characters, or choose another alphabet"
            )
        return np.array([self._ids[character] for character in text], np.int32)

    def decode(self, ids: Sequence[int] | NDArray[Any]) -> str:
        alphabet = self.config.alphabet
        return "".join(alphabet[index] for index in ids if index < len(alphabet))

    def fingerprint(self) -> str:
        return hashlib.sha256(f"alphabet\n{self.config.alphabet}".encode()).hexdigest()

    def pieces(self) -> list[bytes | None]:
        return [*(character.encode() for character in self.config.alphabet), None, None]
