"""What attention remembers, in other forms than one slot per position."""

from axlearn_inference.caches.int8 import Int8Cache
from axlearn_inference.caches.paged import PAGE_TABLE, PagedCache
from axlearn_inference.caches.rows import RowAxes, RowAxis, put_rows, row_axes, take_rows
from axlearn_inference.caches.sliding import SlidingCache, put_sliding

__all__ = [
    "PAGE_TABLE",
    "Int8Cache",
    "PagedCache",
    "RowAxes",
    "RowAxis",
    "SlidingCache",
    "put_rows",
    "put_sliding",
    "row_axes",
    "take_rows",
]
