"""Cuts the novel into chapters, and the chapters into a train and a held-out split."""

from __future__ import annotations

import re
from importlib import resources
from typing import Final

SPLITS: Final = ("train", "validation")

_HEADING = re.compile(r"^CHAPTER \d+\.", re.MULTILINE)
_HELD_OUT_EVERY = 15  # 9 of 135 chapters, 7 % of the text, from all parts of the book


def chapters() -> list[str]:
    """Returns the 135 chapters, heading included; joined they are the file, to the character."""
    file = resources.files(__package__).joinpath("moby_dick.txt")
    text = file.read_bytes().decode("utf-8")
    starts = [heading.start() for heading in _HEADING.finditer(text)]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def is_held_out(number: int) -> bool:
    """Says whether a chapter (counted from 1, as in the book) is for validation only."""
    return number % _HELD_OUT_EVERY == 0


def documents(split: str) -> list[str]:
    """Returns the chapters of a split, in the book's order."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
    held_out = split == "validation"
    return [
        text for number, text in enumerate(chapters(), start=1) if is_held_out(number) == held_out
    ]
