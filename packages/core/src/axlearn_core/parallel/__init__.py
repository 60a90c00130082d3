"""Where it lives: processes, the mesh, and the mapping from logical axes to it."""

from axlearn_core.parallel.agreement import (
    check_agreement,
    from_first,
    is_first,
    raise_together,
    wait_for_all,
)
from axlearn_core.parallel.distributed import ProcessError, joined
from axlearn_core.parallel.mesh import MESH_AXES, infer_mesh_shape, make_mesh
from axlearn_core.parallel.per_device import per_device
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
    "ProcessError",
    "check_agreement",
    "check_rules",
    "constrain",
    "current_placement",
    "current_platform",
    "from_first",
    "infer_mesh_shape",
    "is_first",
    "joined",
    "make_mesh",
    "parameter_shardings",
    "partition_spec",
    "per_device",
    "placing",
    "raise_together",
    "wait_for_all",
]
