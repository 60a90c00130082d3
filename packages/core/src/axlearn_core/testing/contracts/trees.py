"""Comparing trees of arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def assert_trees_close(actual: Any, expected: Any, *, tolerance: float) -> None:
    """Compares two trees of arrays, leaf by leaf; an error names the leaf.

    Args:
        tolerance: how far numbers may be apart, relative to the largest of their array: sums in
            another order round at the size of their terms, not at that of their result.
    """
    structures: list[Any] = [jax.tree.structure(tree) for tree in (actual, expected)]
    assert structures[0] == structures[1]
    pairs = zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    for (path, got), want in pairs:
        got, want = np.asarray(got), np.asarray(want)
        name = jax.tree_util.keystr(path)
        if not jnp.issubdtype(want.dtype, jnp.floating):
            np.testing.assert_array_equal(got, want, err_msg=name)
            continue
        if want.dtype == jnp.bfloat16:  # which numpy does not take for a float
            got, want = np.float32(got), np.float32(want)
        scale = float(np.abs(want[np.isfinite(want)]).max(initial=0))
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale, err_msg=name)
