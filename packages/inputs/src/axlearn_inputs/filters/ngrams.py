"""Hashes of words and of runs of words: the same in every process, on every machine."""

from __future__ import annotations

import re
import zlib

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd: powers stay invertible


def word_hashes(text: str) -> Hashes:
    """Returns a hash per word; case, punctuation and space make no difference."""
    words = _WORD.findall(text.lower())
    return mix(np.array([zlib.crc32(word.encode()) for word in words], np.uint64))


def ngram_hashes(words: Hashes, n: int) -> Hashes:
    """Returns a hash per run of `n` words, [len(words) - n + 1]: a polynomial in their hashes."""
    count = len(words) - n + 1
    if count < 1:
        return words[:0]
    total = np.zeros(count, np.uint64)
    for start in range(n):
        total = total * _MULTIPLIER + words[start : start + count]
    return mix(total)


def mix(values: Hashes) -> Hashes:
    """Spreads values over all 64 bits, as splitmix64 ends (doi:10.1145/2660193.2660195)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
