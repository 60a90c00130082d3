"""Whether a model makes use of a mesh: axes that split nothing, parameters that nothing splits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from axlearn_core.config import ConfigError
from axlearn_core.module.parameters import ParameterSpec, flatten_paths
from axlearn_core.parallel.sharding import AnyMesh, Rules, axes_of, partition_spec, ways

_PARAMETERS_ONLY = ("pipeline", "expert", "model")  # a batch alone is no use of these
_PARAMETERS = ("pipeline", "expert", "fsdp", "model")

# What is worth a warning: whole on each device, and a good part of what it holds.
_LARGE_BYTES = 2**20
_LARGE_FRACTION = 0.01


def check_axes_are_used(specs: Mapping[str, Any], mesh: AnyMesh, rules: Rules) -> None:
    """Raises a ConfigError for a mesh axis above 1 over which nothing of a model is split.

    The rows and tokens of a batch use the axes of the rules "batch" and "seq", but `pipeline`,
    `expert` and `model` need a parameter.
    """
    used = {axis for spec in flatten_paths(specs).values() for axis in _split_over(spec, rules)}
    for name in ("batch", "seq"):
        used.update(set(axes_of(rules.get(name))) - set(_PARAMETERS_ONLY))
    for axis, size in mesh.shape.items():
        if size == 1 or axis in used:
            continue
        names = [repr(name) for name, value in rules.items() if axis in axes_of(value)]
        rule = f"the sharding rules of {', '.join(names)} do" if names else "no sharding rule does"
        raise ConfigError(
            f"mesh_shape.{axis} (={size}), but nothing of this model is split over it: {rule} name "
            f"{axis!r}, and no parameter has such a logical axis. Give those devices to another "
            "axis, such as fsdp or data, or write a rule"
        )


def whole_parameters(specs: Mapping[str, Any], mesh: AnyMesh, rules: Rules) -> list[str]:
    """Returns a line for each large parameter that lies whole on every device, though it need not.

    Large is at least 1 MiB and 1% of the parameters that a device holds. A mesh that only splits
    batches, such as {"data": 8}, asks for whole parameters.
    """
    free = {axis: mesh.shape[axis] for axis in _PARAMETERS if mesh.shape[axis] > 1}
    if not free:
        return []
    flat = flatten_paths(specs)
    held = {
        path: _bytes(spec) // ways(_split_over(spec, rules), mesh) for path, spec in flat.items()
    }
    least = max(_LARGE_BYTES, _LARGE_FRACTION * sum(held.values()))
    over = " x ".join(f"{axis} (={size})" for axis, size in free.items())
    return [
        f"{path} {spec.shape}, {_bytes(spec) / 2**20:.1f} MiB, lies whole on every device: no rule "
        f"of its axes {spec.axes} splits it over {over}"
        for path, spec in flat.items()
        if held[path] == _bytes(spec) >= least
    ]


def _split_over(spec: ParameterSpec, rules: Rules) -> list[str]:
    return [axis for part in partition_spec(spec.axes, rules) for axis in axes_of(part)]


def _bytes(spec: ParameterSpec) -> int:
    return int(math.prod(spec.shape) * spec.struct().dtype.itemsize)
