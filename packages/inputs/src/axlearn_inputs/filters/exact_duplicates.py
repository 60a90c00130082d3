"""Documents that were there before, to the character."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import numpy as np

from axlearn_inputs.filters.filter import DocumentFilter
from axlearn_inputs.filters.memory import KeyMemory


class ExactDuplicates(DocumentFilter):
    """Drops a document whose text is that of an earlier one, by 64 bits of its blake2b.

    The first stays. Among 10**8 documents two different ones share 64 bits with a chance of
    0.0003. Memory is 16 bytes per document of `capacity` (rounded up to a power of two); beyond
    that old ones are forgotten.
    """

    stateless: ClassVar[bool] = False

    class Config(DocumentFilter.Config):
        capacity: int = 1 << 22  # documents that are remembered

    def __init__(self, config: Config):
        super().__init__(config)
        self._memory = KeyMemory(1, config.capacity)

    def drops(self, text: str) -> bool:
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        key = np.frombuffer(digest, np.uint64)
        if self._memory.seen(key):
            return True
        self._memory.add(key)
        return False
