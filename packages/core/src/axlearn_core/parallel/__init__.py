"""Where it lives: the mesh, and the mapping from logical axes to it."""

from axlearn_core.parallel.mesh import MESH_AXES, infer_mesh_shape, make_mesh
from axlearn_core.parallel.per_device import device_shape, per_device
from axlearn_core.parallel.sharding import (
    DEFAULT_RULES,
    Placement,
    check_rules,
    constrain,
    current_placement,
    current_platform,
    parameter_shardings,
    partition_spec,
    placing,
)

__all__ = [
    "DEFAULT_RULES",
    "MESH_AXES",
    "Placement",
    "check_rules",
    "constrain",
    "current_placement",
    "current_platform",
    "device_shape",
    "infer_mesh_shape",
    "make_mesh",
    "parameter_shardings",
    "partition_spec",
    "per_device",
    "placing",
]
