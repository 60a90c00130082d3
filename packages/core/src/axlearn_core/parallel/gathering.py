"""Gathers the parts of a parameter, where the devices that hold them have different tokens."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.ad_checkpoint import checkpoint_name

from axlearn_core.parallel.sharding import mesh_axes

GATHERED = "gathered_parameter"
"""The name of what `gathered` returns, for those who would rather gather again than keep it."""


def gathered(x: jax.Array, axes: Sequence[str | None], *, keep: Sequence[str]) -> jax.Array:
    """Returns a parameter's part with all of its dimensions whole, but for those kept apart.

    Called inside of `per_device`. The gradient comes back as a sum of which each device gets its
    part: a reduce-scatter, also where it is no more than a part of a larger program.

    Args:
        x: the part that lies on this device.
        axes: the parameter's logical axes.
        keep: logical axes that stay divided.
    """
    used: set[str] = set()
    for dimension, name in enumerate(axes):
        names = tuple(axis for axis in mesh_axes(name) if axis not in used) if name else ()
        used.update(names)
        if names and name not in keep:
            x = jax.lax.all_gather(x, names, axis=dimension, tiled=True)
    named: jax.Array = checkpoint_name(x, GATHERED)
    return named
