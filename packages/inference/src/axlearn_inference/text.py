"""Text from ids, as they come."""

from __future__ import annotations

from collections.abc import Sequence

from axlearn_core.errors import UserError
from axlearn_core.training.tokenizer import Tokenizer

_HALF = "\N{REPLACEMENT CHARACTER}"
_MOST_HALVES = 3  # of a character: UTF-8 has four bytes at most, and a tokenizer may mark each
_LONG = 32  # ids without a place where a character ends; then there is none to wait for


class Detokenizer:
    """Gives the text of ids piece by piece, each as soon as it is certain.

    Only the ids since the last but one end of a character are decoded anew, so an id costs the
    same however long the text is. The ids before them matter: some tokenizers write a space
    between words, and none at the beginning of a text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()):
        """Args: prompt: the ids before, whose text is not given."""
        self._decode = tokenizer.decode
        self._context = list(prompt)  # decoded for what stands before, given already
        self._new: list[int] = []  # since the last end of a character
        self._given = len(_certain(self._decode(prompt))) if prompt else 0
        self._begun = self._given  # that of the context

    def feed(self, token: int) -> str:
        """Returns what is certain with one more id and was not before."""
        self._new.append(token)
        text = self._decode([*self._context, *self._new])
        certain = _certain(text)
        piece = certain[self._given :]
        self._given = max(self._given, len(certain))
        if certain == text or len(self._new) >= _LONG:
            self._move_on()
        return piece

    def flush(self) -> str:
        """Returns what is left: halves of characters that nothing will complete."""
        text = self._decode([*self._context, *self._new])
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece

    def _move_on(self) -> None:
        alone = self._decode(self._new)
        if alone:
            self._context, self._new = self._new, []
            self._given = self._begun = len(_certain(alone))
        elif self._given == self._begun:  # special ids, which are no context
            self._new = []


def _certain(text: str) -> str:
    """Returns the text without what may be the beginning of a character."""
    kept = text.rstrip(_HALF)
    return text[: max(len(kept), len(text) - _MOST_HALVES)]


class StopStrings:
    """Passes text on up to the first of some strings.

    Attributes:
        found: whether one of them came.
    """

    def __init__(self, stops: Sequence[str]):
        if "" in stops:
            raise UserError("a stop string must have at least one character")
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Returns what stands before any stop string, and cannot be the beginning of one."""
        self._held += text
        places = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            return self._pass_on(min(places))
        return self._pass_on(len(self._held) - max(map(self._overlap, self._stops), default=0))

    def flush(self) -> str:
        """Returns what was held back, as nothing follows."""
        return "" if self.found else self._pass_on(len(self._held))

    def _overlap(self, stop: str) -> int:
        """Returns how many characters at the end of what is held begin a string."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)

    def _pass_on(self, length: int) -> str:
        passed, self._held = self._held[:length], self._held[length:]
        return passed


class TextStream:
    """The text of one request: whole characters, up to the first stop string.

    Attributes:
        stopped: whether a stop string came.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = (), stops: Sequence[str] = ()):
        self._detokenizer = Detokenizer(tokenizer, prompt)
        self._stops = StopStrings(stops)

    @property
    def stopped(self) -> bool:
        return self._stops.found

    def feed(self, token: int) -> str:
        """Returns the text that is certain with one more id."""
        return self._stops.feed(self._detokenizer.feed(token))

    def flush(self) -> str:
        """Returns the text that is left when no id follows."""
        return self._stops.feed(self._detokenizer.flush()) + self._stops.flush()
