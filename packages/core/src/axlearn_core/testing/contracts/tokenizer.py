"""The contract of tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from axlearn_core.testing.contracts.config import ConfigContract
from axlearn_core.training.tokenizer import Tokenizer


class TokenizerContract(ConfigContract):
    """Text becomes ids of the vocabulary, and ids become the same text again."""

    # What must come back unchanged. A tokenizer that is not for every text has its own.
    texts: ClassVar[Sequence[str]] = (
        "",
        "Call me Ishmael.",
        " spaces  in   rows ",
        "lines\n\n\tand tabs\r\n",
        "Ünïcödé, 日本語, עברית, 🐋 and e\u0301",
        "\u2581\x00\x7f</s><s>",
    )

    def tokenizer(self) -> Tokenizer:
        """Returns the tokenizer; override it for a component that makes one from text."""
        tokenizer: Tokenizer = self.build(self.config())
        return tokenizer

    def test_texts_come_back_as_they_were(self) -> None:
        tokenizer = self.tokenizer()
        assert [tokenizer.decode(tokenizer.encode(text)) for text in self.texts] == [*self.texts]

    def test_ids_are_of_the_vocabulary(self) -> None:
        tokenizer = self.tokenizer()
        for text in self.texts:
            ids = tokenizer.encode(text)
            assert ids.ndim == 1 and ids.dtype == np.int32, text
            assert ((ids >= 0) & (ids < tokenizer.vocab_size)).all(), text

    def test_special_ids_are_of_the_vocabulary_and_stand_for_no_text(self) -> None:
        tokenizer = self.tokenizer()
        special = {tokenizer.bos_id, tokenizer.eos_id} - {-1}  # -1: there is none
        assert all(0 <= number < tokenizer.vocab_size for number in special)
        for text in self.texts:
            ids = tokenizer.encode(text)
            assert special.isdisjoint(ids.tolist()), f"{text!r} holds a special id"
            surrounded = [*special, *ids.tolist(), *special]
            assert tokenizer.decode(surrounded) == text

    def test_ids_beyond_the_vocabulary_stand_for_no_text(self) -> None:
        tokenizer = self.tokenizer()
        beyond = [tokenizer.vocab_size, tokenizer.vocab_size + 100]
        ids = tokenizer.encode(self.texts[1]).tolist()
        assert tokenizer.decode([*ids, *beyond]) == self.texts[1]

    def test_pieces_are_the_bytes_of_the_text(self) -> None:
        tokenizer = self.tokenizer()
        pieces = tokenizer.pieces()
        assert len(pieces) == tokenizer.vocab_size
        assert all(pieces[number] is None for number in {tokenizer.eos_id, tokenizer.bos_id} - {-1})
        for text in self.texts:
            parts = [pieces[number] for number in tokenizer.encode(text)]
            joined = b"".join(part for part in parts if part is not None)
            assert joined in (text.encode(), b" " + text.encode())  # some begin with a space

    def test_lists_and_arrays_decode_alike(self) -> None:
        tokenizer = self.tokenizer()
        ids = tokenizer.encode(self.texts[1])
        assert tokenizer.decode(ids.tolist()) == tokenizer.decode(ids) == self.texts[1]

    def test_two_of_one_config_map_alike(self) -> None:
        for text in self.texts:
            first, second = (self.tokenizer().encode(text) for _ in range(2))
            np.testing.assert_array_equal(first, second)
