"""Documents that share most of their text with an earlier one, found by MinHash."""

from __future__ import annotations

import zlib
from typing import ClassVar

import numpy as np

from axlearn_core.config import ConfigError
from axlearn_inputs.filters.filter import DocumentFilter
from axlearn_inputs.filters.memory import KeyMemory
from axlearn_inputs.filters.ngrams import Hashes, mix, ngram_hashes, word_hashes

_NGRAMS_AT_ONCE = 512  # with 112 hash functions 0.5 MB, which a cache holds


class NearDuplicates(DocumentFilter):
    """Drops a document that is probably similar to an earlier one; the first stays.

        signature[i] = min over the document's n-grams of hash_i(n-gram)
        similar        if all `rows` values of one of the `bands` are those of an earlier document

    Two documents whose sets of n-grams have the Jaccard similarity s are found similar with the
    probability 1 - (1 - s**rows)**bands. The defaults are those of arXiv:2406.17557, 14 bands of 8
    with 5-grams: 0.05 at s = 0.5, 0.56 at 0.7, 0.92 at 0.8, 0.9997 at 0.9.

    A document that is dropped is not remembered, so likeness does not spread along a chain. Memory
    is `bands * 16` bytes per document of `capacity` (rounded up to a power of two); beyond that old
    ones are forgotten. A document with fewer than `ngram` words is one n-gram of all its words.
    """

    stateless: ClassVar[bool] = False

    class Config(DocumentFilter.Config):
        ngram: int = 5  # words
        bands: int = 14
        rows: int = 8  # hashes per band
        capacity: int = 1 << 20  # documents that are remembered
        seed: int = 0  # of the hash functions

    def __init__(self, config: Config):
        super().__init__(config)
        if min(config.ngram, config.bands, config.rows) < 1:
            raise ConfigError("ngram, bands and rows must be at least 1")
        self._memory = KeyMemory(config.bands, config.capacity)
        stream = np.random.default_rng(config.seed)
        count = config.bands * config.rows
        # Odd multipliers permute the 64-bit numbers; their high 32 bits are the hash.
        self._multipliers = stream.integers(1 << 63, size=count, dtype=np.uint64) * 2 + 1
        self._offsets = stream.integers(1 << 63, size=count, dtype=np.uint64)

    def drops(self, text: str) -> bool:
        keys = self._band_keys(text)
        if self._memory.seen(keys):
            return True
        self._memory.add(keys)
        return False

    def _band_keys(self, text: str) -> Hashes:
        """Returns a key per band, [bands]."""
        words = word_hashes(text)
        ngrams = ngram_hashes(words, max(min(self.config.ngram, len(words)), 1))
        if not len(ngrams):  # no words: the text itself is all there is
            ngrams = mix(np.array([zlib.crc32(text.encode())], np.uint64))
        signature = self._signature(ngrams)
        key = np.zeros(self.config.bands, np.uint64)
        for value in signature.reshape(self.config.bands, self.config.rows).T:
            key = mix(key + value + np.uint64(1))
        return key

    def _signature(self, ngrams: Hashes) -> Hashes:
        """Returns the least value of each hash function, [bands * rows]."""
        smallest = np.full(len(self._multipliers), np.iinfo(np.uint64).max, np.uint64)
        for start in range(0, len(ngrams), _NGRAMS_AT_ONCE):
            some = ngrams[start : start + _NGRAMS_AT_ONCE]
            values = some * self._multipliers[:, None] + self._offsets[:, None]
            np.minimum(smallest, values.min(axis=1), out=smallest)
        return smallest >> np.uint64(32)
