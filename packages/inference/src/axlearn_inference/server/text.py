"""Text of tokens as they come: no half characters, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Turns the ids of one answer into text that may be shown at once.

    Bytes that are the beginning of a character wait for its end, and text that may be the
    beginning of a stop string waits until it is known.

    Args:
        pieces: the bytes of each id, as `Tokenizer.pieces` gives them.
        stop: strings before which the text ends.
    """

    def __init__(self, pieces: Sequence[bytes | None], stop: Sequence[str] = ()):
        self._pieces = pieces
        self._stop = [each for each in stop if each]
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False  # a stop string came; the text is whole

    def push(self, token: int) -> str:
        """Returns the text that an id makes known."""
        return self._release(self._decoder.decode(self._pieces[token] or b""), last=False)

    def end(self) -> str:
        """Returns what was held back, when no further id comes."""
        return self._release(self._decoder.decode(b"", final=True), last=True)

    def _release(self, new: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        held = 0 if last else max((overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def overlap(text: str, mark: str) -> int:
    """Returns how many characters at the end of `text` may be the beginning of `mark`."""
    longest = min(len(text), len(mark) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(mark[:n])), 0)
