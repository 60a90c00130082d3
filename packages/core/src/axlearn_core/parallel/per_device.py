"""Computes on each device with the parts of the arrays that lie there."""

from __future__ import annotations

import math
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


def device_shape(shape: Sequence[int], axes: Axes) -> tuple[int, ...]:
    """Returns the shape of the part that lies on one device, of an array with these axes.

    That of the whole array outside `placing` and on a mesh of one device. Where devices do not
    divide a dimension, it is that of the largest part.
    """
    placement = current_placement()
    if placement is None or placement.mesh.size == 1:
        return tuple(shape)
    sizes = placement.mesh.shape

    def part(size: int, axes: str | tuple[str, ...] | None) -> int:
        names = (axes,) if isinstance(axes, str) else axes or ()
        parts: int = math.prod(sizes[name] for name in names)
        return -(-size // parts)

    return tuple(map(part, shape, partition_spec(axes, placement.rules)))
