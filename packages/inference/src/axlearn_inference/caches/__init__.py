"""What attention remembers, in other forms than one slot per position."""

from axlearn_inference.caches.paged import PAGE_TABLE, PagedCache

__all__ = ["PAGE_TABLE", "PagedCache"]
