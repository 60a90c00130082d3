"""What each id stands for, for people who read log-probabilities."""

from __future__ import annotations

from axlearn_core.training.tokenizer import Tokenizer


class Vocabulary:
    """Bytes and names of a tokenizer's ids.

    For a tokenizer that does not tell bytes, those of what it decodes. Ids that a model has besides
    are special ones.
    """

    def __init__(self, tokenizer: Tokenizer):
        try:
            self._pieces = tokenizer.pieces()
        except NotImplementedError:
            every = range(tokenizer.vocab_size)
            self._pieces = [tokenizer.decode([token]).encode() or None for token in every]
        self._names = {}
        for name in tokenizer.special_names:
            ids = tokenizer.encode_markup(name)
            if len(ids) == 1:
                self._names[int(ids[0])] = name

    def bytes(self, token: int) -> bytes | None:
        """Returns the bytes of an id; None for a special one."""
        return self._pieces[token] if token < len(self._pieces) else None

    def text(self, token: int) -> str:
        """Returns an id's text, as OpenAI writes it: parts of a character as `bytes:\\xe2\\x82`."""
        piece = self.bytes(token)
        if piece is None:
            return self._names.get(token, f"<{token}>")
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)

    def characters(self, token: int) -> int:
        """Returns how many characters begin in an id."""
        return sum(byte & 0xC0 != 0x80 for byte in self.bytes(token) or b"")


def finite(logprob: float | None) -> float | None:
    """Returns a log-probability that JSON can hold; OpenAI too writes -9999 for what cannot be."""
    return None if logprob is None else max(logprob, -9999.0)
