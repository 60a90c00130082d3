"""The device mesh: which devices take part, arranged along named axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from axlearn_core.config import ConfigError, near_names

MESH_AXES = ("pipeline", "data", "expert", "fsdp", "seq", "model")
"""All axis names, from the one that communicates least to the one that communicates most."""


def infer_mesh_shape(shape: Mapping[str, int], device_count: int) -> dict[str, int]:
    """Completes a partial mesh shape.

    Args:
        shape: sizes by axis; a missing axis has size 1, and one axis may be -1 (what is left).
        device_count: how many devices there are.

    Returns:
        The size of every axis, in the order of MESH_AXES. Their product is at most `device_count`
        where no axis is -1, and equal to it otherwise.

    Raises:
        ConfigError: for unknown axes, sizes below 1, or a shape that the devices cannot fill.
    """
    for axis, size in shape.items():
        if axis not in MESH_AXES:
            raise ConfigError(
                f"mesh_shape has no axis {axis!r}.{near_names(axis, MESH_AXES)} "
                f"Axes: {', '.join(MESH_AXES)}."
            )
        if size < 1 and size != -1:
            raise ConfigError(f"mesh_shape.{axis} must be positive or -1 (inferred), got {size}")
    full = {axis: shape.get(axis, 1) for axis in MESH_AXES}
    open_axes = [axis for axis, size in full.items() if size == -1]
    known = math.prod(size for size in full.values() if size != -1)
    if len(open_axes) > 1:
        raise ConfigError(f"only one mesh axis can be -1 (inferred), got {', '.join(open_axes)}")
    if open_axes:
        if device_count % known:
            raise ConfigError(
                f"mesh_shape {dict(shape)} leaves {open_axes[0]} to be inferred, but {known} does "
                f"not divide the {device_count} devices"
            )
        full[open_axes[0]] = device_count // known
    elif known > device_count:
        raise ConfigError(
            f"mesh_shape {dict(shape)} needs {known} devices, and there are {device_count}. Make "
            "an axis smaller, or write -1 for one of them to use what is there"
        )
    return full


def make_mesh(shape: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges devices (all of them by default) in a mesh of the given, possibly partial, shape."""
    present = list(jax.devices() if devices is None else devices)
    full = infer_mesh_shape(shape, len(present))
    count = math.prod(full.values())
    if count < len(present) or devices is not None or jax.default_backend() == "cpu":
        return Mesh(np.array(present[:count]).reshape(tuple(full.values())), MESH_AXES)
    return jax.make_mesh(tuple(full.values()), MESH_AXES)
