"""Computes on each device with the parts of the arrays that lie there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from axlearn_core.parallel.sharding import current_placement, partition_spec

Axes = Sequence[str | None]


def per_device(
    function: Callable[..., Any], in_axes: Sequence[Axes | None], out_axes: Any
) -> Callable[..., Any]:
    """Returns `function` of whole arrays, called on each device with the parts that lie there.

    For what the compiler cannot split by itself, such as a kernel, and for collectives by hand.
    Outside `placing` and on a mesh of one device it is `function` as it is.

    Args:
        function: of arrays, one for each of `in_axes`. Inside, the mesh's axes have names.
        in_axes: the logical axes of each argument; None for an argument that is None.
        out_axes: the logical axes of the result, or a list of them for a tuple of results.
    """
    placement = current_placement()
    if placement is None or placement.mesh.size == 1:
        return function
    rules = placement.rules

    def spec(axes: Axes | None) -> Any:
        return None if axes is None else partition_spec(axes, rules)

    several = isinstance(out_axes, list)
    return jax.shard_map(
        function,
        mesh=placement.mesh,
        in_specs=tuple(map(spec, in_axes)),
        out_specs=tuple(map(spec, out_axes)) if several else spec(out_axes),
        check_vma=False,  # kernels do not say over which axes their results vary
    )
