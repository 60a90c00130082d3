"""Where it lives: the mesh, and the mapping from logical axes to it."""

from axlearn_core.parallel.exchange import Exchange
from axlearn_core.parallel.gathering import gathered
from axlearn_core.parallel.mesh import MESH_AXES, infer_mesh_shape, make_mesh
from axlearn_core.parallel.per_device import per_device
from axlearn_core.parallel.sharding import (
    DEFAULT_RULES,
    Placement,
    check_rules,
    constrain,
    current_placement,
    current_platform,
    mesh_axes,
    parameter_shardings,
    partition_spec,
    placing,
)

__all__ = [
    "DEFAULT_RULES",
    "Exchange",
    "MESH_AXES",
    "Placement",
    "check_rules",
    "constrain",
    "current_placement",
    "current_platform",
    "gathered",
    "infer_mesh_shape",
    "make_mesh",
    "mesh_axes",
    "parameter_shardings",
    "partition_spec",
    "per_device",
    "placing",
]
