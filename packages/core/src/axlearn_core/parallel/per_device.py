"""Computes on each device with the parts of the arrays that lie there."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax

from axlearn_core.parallel.sharding import Rules, axes_of, current_placement, partition_spec, ways

Axes = Sequence[str | None]


def per_device(
    function: Callable[..., Any],
    in_axes: Sequence[Axes | None],
    out_axes: Any,
    *,
    rules: Rules | None = None,
) -> Callable[..., Any]:
    """Returns `function` of whole arrays, called on each device with the parts that lie there.

    For what the compiler cannot split by itself, such as a kernel, and for collectives by hand.
    Outside `placing` and on a mesh of one device it is `function` as it is. Where some mesh axes
    are split by hand already, as by a pipeline around it, it splits over the others.

    Args:
        function: of arrays, one for each of `in_axes`. Inside, the mesh's axes have names.
        in_axes: the logical axes of each argument; None for an argument that is None.
        out_axes: the logical axes of the result, or a list of them for a tuple of results.
        rules: from logical to mesh axes, instead of the placement's; see `dividing_axes`.
    """
    placement = current_placement()
    if placement is None or placement.mesh.size == 1:
        return function
    bound = _bound_axes()
    free = {axis for axis in placement.mesh.axis_names if axis not in bound}
    if not free:
        return function
    rules = placement.rules if rules is None else rules
    chosen = {name: [axis for axis in axes_of(rules[name]) if axis in free] for name in rules}

    def spec(axes: Axes | None) -> Any:
        return None if axes is None else partition_spec(axes, chosen)

    several = isinstance(out_axes, list)
    return jax.shard_map(
        function,
        mesh=jax.sharding.get_abstract_mesh() if bound else placement.mesh,
        in_specs=tuple(map(spec, in_axes)),
        out_specs=tuple(map(spec, out_axes)) if several else spec(out_axes),
        axis_names=free,
        check_vma=False,  # kernels do not say over which axes their results vary
    )


def dividing_axes(name: str, size: int, *, taken: Collection[str] = ()) -> tuple[str, ...]:
    """Returns the mesh axes that can share a dimension: those of its rule whose product divides it.

    Axes of one device are left out, and so are those that are split by hand already. The rule's
    first axes that divide are taken, and the rest left: 4 rows over 2 x 4 devices become 2.

    Args:
        name: the dimension's logical axis.
        size: of the dimension.
        taken: mesh axes that other dimensions of the array have.
    """
    placement = current_placement()
    if placement is None:
        return ()
    chosen: list[str] = []
    for axis in axes_of(placement.rules.get(name)):
        count = placement.mesh.shape[axis]
        if count == 1 or axis in taken or axis in _bound_axes():
            continue
        if size % count:
            break
        size //= count
        chosen.append(axis)
    return tuple(chosen)


def device_count(axes: Sequence[str]) -> int:
    """Returns how many devices there are along these axes of the current mesh."""
    placement = current_placement()
    return 1 if placement is None else math.prod(placement.mesh.shape[axis] for axis in axes)


def device_shape(shape: Sequence[int], axes: Axes) -> tuple[int, ...]:
    """Returns the shape of the part that lies on one device, of an array with these axes.

    That of the whole array outside `placing` and on a mesh of one device. Where devices do not
    divide a dimension, it is that of the largest part.
    """
    placement = current_placement()
    if placement is None or placement.mesh.size == 1:
        return tuple(shape)
    spec = partition_spec(axes, placement.rules)
    counts = [ways(part, placement.mesh) for part in spec]
    return tuple(-(-size // count) for size, count in zip(shape, counts, strict=True))


def _bound_axes() -> tuple[str, ...]:
    bound: tuple[str, ...] = jax.sharding.get_abstract_mesh().manual_axes
    return bound
