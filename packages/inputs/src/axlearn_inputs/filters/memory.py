"""Which keys were there before, in a bounded amount of memory."""

from __future__ import annotations

import numpy as np

from axlearn_inputs.filters.ngrams import Hashes

_WAYS = 8


class KeyMemory:
    """One table of 64-bit keys per column of what it is asked; a full bucket forgets its oldest.

    Buckets hold 8 keys, in twice the room that `capacity` keys need. So hardly anything of the last
    `capacity` keys is forgotten (a Poisson variable of mean 4 exceeds 8 in 2 % of the buckets), and
    memory never grows: 16 bytes per key, with `capacity` rounded up to a power of two.
    """

    def __init__(self, columns: int, capacity: int):
        buckets = 1 << max(2 * capacity // _WAYS - 1, 0).bit_length()
        self._keys = np.zeros((columns, buckets, _WAYS), np.uint64)
        self._next = np.zeros((columns, buckets), np.uint8)  # the way that is written next
        self._columns = np.arange(columns)

    def seen(self, keys: Hashes) -> bool:
        """Says whether one of `keys` [columns] is in its column's table."""
        buckets = self._buckets(keys)
        return bool((self._keys[self._columns, buckets] == keys[:, None]).any())

    def add(self, keys: Hashes) -> None:
        """Puts each key into its column's table."""
        buckets = self._buckets(keys)
        ways = self._next[self._columns, buckets]
        self._keys[self._columns, buckets, ways] = keys
        self._next[self._columns, buckets] = (ways + 1) % _WAYS

    def _buckets(self, keys: Hashes) -> Hashes:
        return keys & np.uint64(self._keys.shape[1] - 1)
