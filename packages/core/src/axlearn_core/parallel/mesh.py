"""The device mesh: which devices take part, arranged along named axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh

from axlearn_core.config import ConfigError, near_names

MESH_AXES = ("pipeline", "data", "expert", "fsdp", "seq", "model")
"""All axis names, from the one that communicates least to the one that communicates most."""


def infer_mesh_shape(
    shape: Mapping[str, int],
    device_count: int,
    *,
    field: str = "mesh_shape",
    unit: str = "devices",
) -> dict[str, int]:
    """Completes a partial mesh shape.

    Args:
        shape: sizes by axis; a missing axis has size 1, and one axis may be -1 (what is left).
        device_count: how many devices there are.
        field: the config's field that holds the shape, for errors.
        unit: what is counted, for errors.

    Returns:
        The size of every axis, in the order of MESH_AXES. Their product is at most `device_count`
        where no axis is -1, and equal to it otherwise.

    Raises:
        ConfigError: for unknown axes, sizes below 1, or a shape that the devices cannot fill.
    """
    for axis, size in shape.items():
        if axis not in MESH_AXES:
            raise ConfigError(
                f"{field} has no axis {axis!r}.{near_names(axis, MESH_AXES)} "
                f"Axes: {', '.join(MESH_AXES)}."
            )
        if size < 1 and size != -1:
            raise ConfigError(f"{field}.{axis} must be positive or -1 (inferred), got {size}")
    full = {axis: shape.get(axis, 1) for axis in MESH_AXES}
    open_axes = [axis for axis, size in full.items() if size == -1]
    known = math.prod(size for size in full.values() if size != -1)
    if len(open_axes) > 1:
        raise ConfigError(f"only one mesh axis can be -1 (inferred), got {', '.join(open_axes)}")
    if open_axes:
        if device_count % known:
            raise ConfigError(
                f"{field} {dict(shape)} leaves {open_axes[0]} to be inferred, but {known} does "
                f"not divide the {device_count} {unit}"
            )
        full[open_axes[0]] = device_count // known
    elif known > device_count:
        raise ConfigError(
            f"{field} {dict(shape)} needs {known} {unit}, and there are {device_count}. Make "
            "an axis smaller, or write -1 for one of them to use what is there"
        )
    return full


def make_mesh(
    shape: Mapping[str, int],
    devices: Sequence[jax.Device] | None = None,
    *,
    slow: Mapping[str, int] | None = None,
) -> Mesh:
    """Arranges devices in a mesh.

    Args:
        shape: sizes by axis, possibly partial, within a network domain; see `infer_mesh_shape`.
        devices: which; None takes all. They may be of a topology that is only compiled for.
        slow: sizes by axis over the network between domains, see `network_domains`. An axis that
            is in both has the product of both sizes, and its outer part is the slow one.

    Raises:
        ConfigError: if the shapes do not fit the devices.
    """
    present = list(jax.devices() if devices is None else devices)
    if not slow:
        full = infer_mesh_shape(shape, len(present))
        return Mesh(_arrange(present, tuple(full.values())), MESH_AXES)
    domains = _split_domains(present, slow)
    outer = infer_mesh_shape(slow, len(domains), field="slow_mesh_shape", unit="network domains")
    inner = infer_mesh_shape(
        shape, len(domains[0]), unit=f"devices of each of {len(domains)} network domains"
    )
    if math.prod(outer.values()) < len(domains):
        raise ConfigError(
            f"slow_mesh_shape {dict(slow)} spans {math.prod(outer.values())} network domains (slices "
            f"or nodes), and there are {len(domains)}; write -1 for one of its axes to use all"
        )
    fast = tuple(inner.values())
    blocks = np.array([_arrange(domain, fast) for domain in domains])
    # [slow axes, fast axes] -> each slow axis before its fast one -> their products.
    blocks = blocks.reshape(*outer.values(), *fast)
    pairs = [axis + part for axis in range(len(fast)) for part in (0, len(fast))]
    sizes = [outer[axis] * inner[axis] for axis in MESH_AXES]
    return Mesh(blocks.transpose(pairs).reshape(sizes), MESH_AXES)


def network_domains(devices: Sequence[jax.Device]) -> list[list[jax.Device]]:
    """Groups devices by the fast network that joins them, in the order of their numbers.

    That is a TPU slice, or what GPUs say of their own partition (a node, or several joined by
    NVLink). GPUs that say nothing, and CPUs, are grouped by process.
    """
    on_tpu = devices[0].platform == "tpu"
    names = ("slice_index",) if on_tpu else ("partition_index", "slice_index", "process_index")
    groups: dict[int, list[jax.Device]] = {}
    for name in names:
        groups = {}
        for device in devices:
            groups.setdefault(getattr(device, name, 0), []).append(device)
        if len(groups) > 1:
            break
    return [groups[index] for index in sorted(groups)]


def _split_domains(
    devices: Sequence[jax.Device], slow: Mapping[str, int]
) -> list[list[jax.Device]]:
    domains = network_domains(devices)
    if len(domains) == 1 and devices[0].platform == "cpu" and -1 not in slow.values():
        # Virtual devices of one process: consecutive ones stand for a domain.
        count = math.prod(slow.values())
        size = max(len(devices) // count, 1)
        domains = [list(devices[at : at + size]) for at in range(0, len(devices), size)][:count]
    if len({len(domain) for domain in domains}) > 1:
        raise ConfigError(
            f"slow_mesh_shape {dict(slow)} needs network domains (slices or nodes) of one size, "
            f"and there are {', '.join(str(len(domain)) for domain in domains)} devices in them"
        )
    return domains


def _arrange(devices: Sequence[jax.Device], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Arranges the first devices of one domain, such that neighbours on a mesh are near."""
    count = math.prod(shape)
    if count < len(devices) or devices[0].platform == "cpu":
        return np.array(devices[:count]).reshape(shape)
    arranged: np.ndarray[Any, Any] = mesh_utils.create_device_mesh(
        shape, devices, allow_split_physical_axes=True
    )
    return arranged
