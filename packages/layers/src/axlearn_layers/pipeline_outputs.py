"""What becomes of the side outputs of microbatches."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.module import OutputCollection


def of_stages(outputs: OutputCollection) -> OutputCollection:
    """Maps side outputs of [stages, repeats, microbatches, layers of a chunk, ...] to a stack's.

    Returns:
        Summaries [layers, ...] and state updates [stages, layers per stage, ...] are means over
        microbatches, losses are [layers, ..., batch, seq] again, and module outputs are
        [layers, microbatches, ...].
    """
    return OutputCollection(
        summaries=jax.tree.map(lambda x: _by_layer(x.mean(axis=2)), outputs.summaries),
        state_updates=jax.tree.map(lambda x: _by_stage(_mean(x, 2)), outputs.state_updates),
        module_outputs=jax.tree.map(
            lambda x: _by_layer(jnp.moveaxis(x, 2, 3)), outputs.module_outputs
        ),
        losses=jax.tree.map(lambda x: _by_layer(_joined_rows(x)), outputs.losses),
    )


def of_microbatches(outputs: OutputCollection) -> OutputCollection:
    """Maps side outputs of [microbatches, ...] likewise; losses there are none."""
    return OutputCollection(
        summaries=jax.tree.map(lambda x: x.mean(axis=0), outputs.summaries),
        state_updates=jax.tree.map(lambda x: _mean(x, 0), outputs.state_updates),
        module_outputs=outputs.module_outputs,
    )


def _mean(x: jax.Array, axis: int) -> jax.Array:
    """Keeps the dtype: of what is no float, the last one counts."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.mean(axis=axis)
    return jax.lax.index_in_dim(x, -1, axis, keepdims=False)


def _by_layer(x: jax.Array) -> jax.Array:
    """[stages, repeats, layers of a chunk, ...] -> [layers, ...]."""
    return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[3:])


def _by_stage(x: jax.Array) -> jax.Array:
    """[stages, repeats, layers of a chunk, ...] -> [stages, layers per stage, ...]."""
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def _joined_rows(x: jax.Array) -> jax.Array:
    """[., ., microbatches, ..., rows, seq] -> [., ., ..., batch, seq], see `split_rows`."""
    moved = jnp.moveaxis(x, 2, -2)
    return moved.reshape(*moved.shape[:-3], -1, moved.shape[-1])
