"""Which pages of a pool are in use, by how many sequences, and what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

NO_KEYS: tuple[bytes, ...] = ()


def page_key(parent: bytes, ids: Sequence[int]) -> bytes:
    """Returns what names a full page: its own ids, and by its parent's key all ids before.

    The parent of a first page is whatever else its content depends on, such as the adapter.
    """
    return hashlib.blake2b(parent + np.asarray(ids, np.int32).tobytes(), digest_size=16).digest()


class PagePool:
    """Counts how many sequences use each page, and finds pages again by what they hold.

    A page is free, used (by one sequence or several), or kept: nobody uses it, but its content is
    known and stays until room is needed. Of kept pages the one that was used last goes last.
    """

    def __init__(self, num_pages: int, page_size: int):
        self.num_pages = num_pages
        self.page_size = page_size
        self._free = list(reversed(range(num_pages)))
        self._users = [0] * num_pages
        self._kept: dict[int, None] = {}  # in the order in which they were let go
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """How many pages hold nothing that is known."""
        return len(self._free)

    @property
    def kept(self) -> int:
        """How many pages nobody uses, but may be found again."""
        return len(self._kept)

    @property
    def used(self) -> int:
        """How many pages sequences use."""
        return self.num_pages - self.free - self.kept

    def take(
        self, count: int, keys: Sequence[bytes] = NO_KEYS, *, reserve: int = 0
    ) -> tuple[list[int], int] | None:
        """Takes pages for a sequence: known ones as far as the keys go, then ones to be written.

        Args:
            count: how many.
            keys: of the first pages; no more than `count`.
            reserve: how many pages must be left for others.

        Returns:
            The pages, and how many of them are known; None if there are too few.
        """
        known = self._known(keys)
        new = count - len(known)
        unused = sum(self._users[page] == 0 for page in known)
        if new + unused + reserve > self.free + self.kept:
            return None
        for page in known:
            self._kept.pop(page, None)
            self._users[page] += 1
        return [*known, *(self._take_one() for _ in range(new))], len(known)

    def remember(self, page: int, key: bytes) -> None:
        """Lets a full page be found; it changes no more. The first of several alike is found."""
        if page not in self._key_of and key not in self._page_of:
            self._key_of[page] = key
            self._page_of[key] = page

    def release(self, pages: Sequence[int]) -> None:
        """Takes note that a sequence no longer uses its pages, which are in order."""
        for page in reversed(pages):  # a page is found only if those before it are: they go later
            assert self._users[page] > 0, f"page {page} is not in use"
            self._users[page] -= 1
            if self._users[page]:
                continue
            if page in self._key_of:
                self._kept[page] = None
            else:
                self._free.append(page)

    def _known(self, keys: Sequence[bytes]) -> list[int]:
        pages: list[int] = []
        for key in keys:
            page = self._page_of.get(key)
            if page is None:
                break
            pages.append(page)
        return pages

    def _take_one(self) -> int:
        if self._free:
            page = self._free.pop()
        else:
            page = next(iter(self._kept))
            del self._kept[page]
            del self._page_of[self._key_of.pop(page)]
        self._users[page] = 1
        return page
