"""Keeps text that users write from standing for special tokens."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from axlearn_core.errors import UserError
from axlearn_core.training.tokenizer import Tokenizer

# Characters that Unicode sets aside for a program's own use: they are in nobody's text.
_FIRST, _LAST = 0xFDD0, 0xFDEF
_RESERVED = re.compile(f"[{chr(_FIRST)}-{chr(_LAST)}]")


class Markup:
    """Tells what a template wrote from what users wrote, and encodes the two accordingly.

    Whether `<|im_start|>` in a rendered text is the template's cannot be seen from the text. So
    *before* rendering some characters of users' strings are replaced by stand-ins, such that each
    special token's name holds one of these characters (here `|`). Whatever the template then does
    with the strings (cuts them, joins them, leaves parts out), they never make up a name. After
    rendering the stand-ins become the characters again, and where such a one is part of a name,
    the text is cut there: both sides are encoded by themselves, as ordinary text. Other text is
    encoded as if none of this had happened.

    The characters are few and rare, so that a template may still look into the strings, for
    `</think>`, say.

    Args:
        tokenizer: whose special tokens are meant.

    Raises:
        UserError: for names that cannot be told from text.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._names = sorted(set(tokenizer.special_names), key=len, reverse=True)
        if any(len(name) < 2 for name in self._names):
            raise UserError(f"special tokens of one character are not supported: {self._names}")
        keys = key_characters(self._names)
        if len(keys) > _LAST - _FIRST:
            raise UserError(f"the special tokens {self._names} have too little in common")
        self._stand_ins = {ord(key): chr(_FIRST + n) for n, key in enumerate(keys)}
        self._keys = {stand_in: chr(key) for key, stand_in in self._stand_ins.items()}
        self._special_ids = {int(i) for name in self._names for i in tokenizer.encode_markup(name)}
        with contextlib.suppress(NotImplementedError):  # of tokenizers that do not tell bytes
            self._special_ids |= {n for n, b in enumerate(tokenizer.pieces()) if b is None}

    def guarded(self, value: Any) -> Any:
        """Returns JSON with stand-ins in all its strings."""
        if isinstance(value, str):
            return _RESERVED.sub("\N{REPLACEMENT CHARACTER}", value).translate(self._stand_ins)
        if isinstance(value, dict):
            return {self.guarded(key): self.guarded(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.guarded(each) for each in value]
        return value

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text that was rendered with guarded strings.

        Raises:
            UserError: if users' text would become a special token nevertheless, say because the
                tokenizer normalises other characters to those of a name.
        """
        of_users = [found.start() for found in _RESERVED.finditer(text)]
        text = _RESERVED.sub(lambda found: self._keys[found[0]], text)
        present = [name for name in self._names if name in text]
        cuts = _cuts(text, present, set(of_users))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        ids = [int(i) for part in parts if part for i in self._tokenizer.encode_markup(part)]
        names = re.compile("|".join(map(re.escape, present)) or "(?!)")  # longer ones first
        genuine = sum(len(names.findall(part)) for part in parts)
        if sum(i in self._special_ids for i in ids) > genuine:
            if not self._names:
                raise UserError(
                    f"{type(self._tokenizer).__name__} has no special_names, so that a template's "
                    "special tokens cannot be told from what users write"
                )
            raise UserError("a message holds text that stands for a special token; leave it out")
        return ids


def key_characters(names: Iterable[str]) -> str:
    """Returns few characters, rather rare ones in text, of which each name holds at least one."""
    left, chosen = list(names), ""

    def worth(character: str) -> tuple[bool, bool, int]:
        rare = not (character.isalnum() or character.isspace())
        return rare, character not in "<>/", sum(character in name for name in left)

    while left:
        best = max(sorted(set("".join(left))), key=worth)
        chosen += best
        left = [name for name in left if best not in name]
    return chosen


def _cuts(text: str, names: Sequence[str], of_users: set[int]) -> list[int]:
    """Returns where to cut, so that no part holds a name with a user's character in it."""
    cuts = set()
    for name in names:
        start = text.find(name)
        while start >= 0:
            inside = [at for at in range(start, start + len(name)) if at in of_users]
            if inside:
                cuts.add(max(inside[0], start + 1))
            start = text.find(name, start + 1)
    return sorted(cuts)
