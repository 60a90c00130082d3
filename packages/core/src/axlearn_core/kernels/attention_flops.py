"""What a kernel of attention computes, for plans: compilers cannot look into kernels."""

from __future__ import annotations

import functools

from axlearn_core.kernels.attention import AttentionSpec
from axlearn_core.kernels.masks import BlockKind, Mask

_MOST_BLOCKS = 256  # along a side: longer sequences are looked at in larger blocks


def attention_flops(
    spec: AttentionSpec, *, of_keys: int, of_values: int, block: tuple[int, int]
) -> float:
    """Returns the floating-point operations of one program of a kernel that skips blocks.

    A product of all pairs that are not skipped is 2 * batch * query_heads * pairs * width. The
    forward pass has two, `query key^T` and `weights value`. Backward passes that make the scores
    again have five, over one program (2 + 1 as wide as keys, 2 as values) or over two.

    Args:
        spec: of what one device computes.
        of_keys: the number of products that are as wide as keys, `head_dim`.
        of_values: the number of those that are as wide as values, `value_dim`.
        block: how many queries and keys are computed or skipped together.
    """
    pairs = attended_pairs(spec.mask, spec.query_length, spec.key_length, *block)
    width = of_keys * spec.head_dim + of_values * spec.value_dim
    return 2.0 * spec.batch * spec.query_heads * pairs * width


@functools.lru_cache(maxsize=64)
def attended_pairs(mask: Mask, query_length: int, key_length: int, queries: int, keys: int) -> int:
    """Returns the pairs of queries and keys in all blocks that the mask does not rule out."""
    while query_length > queries * _MOST_BLOCKS:
        queries *= 2
    while key_length > keys * _MOST_BLOCKS:
        keys *= 2
    rows = [range(at, min(at + queries, query_length)) for at in range(0, query_length, queries)]
    columns = [range(at, min(at + keys, key_length)) for at in range(0, key_length, keys)]
    return sum(
        len(row) * len(column)
        for row in rows
        for column in columns
        if mask.block(row, column) is not BlockKind.EMPTY
    )
