"""Where the residual stream lies on the mesh, and how branches read it and write to it.

With tensor parallelism every device of a group holds some of the tokens between two branches, and
all of the tokens but some of the heads, or of the hidden dimensions, within a branch (sequence
parallelism, arXiv:2205.05198). So norms and sums are computed once, and tokens are gathered where a
branch begins and reduce-scattered where it ends, which moves as much as one all-reduce.
"""

from __future__ import annotations

import jax

from axlearn_core.parallel import constrain, constrain_gradient


def on_stream(x: jax.Array) -> jax.Array:
    """Places the residual stream, [batch, seq, dim]."""
    return constrain(x, "batch", "residual_seq", None)


def into_branch(x: jax.Array) -> jax.Array:
    """Places what a branch reads, [batch, seq, dim]: whole sequences."""
    # Pinned first, or else a compiler may gather it before a norm casts it.
    return constrain(on_stream(x), "batch", "seq", None)


def out_of_branch(x: jax.Array) -> jax.Array:
    """Places what a branch adds to the stream, [batch, seq, dim]; its gradient is whole again."""
    return on_stream(constrain_gradient(x, "batch", "seq", None))
