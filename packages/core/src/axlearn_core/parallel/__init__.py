"""Where it lives: processes, the mesh, and the mapping from logical axes to it."""

from axlearn_core.parallel.agreement import (
    check_agreement,
    from_first,
    gather_texts,
    is_first,
    raise_together,
    wait_for_all,
)
from axlearn_core.parallel.distributed import ProcessError, joined
from axlearn_core.parallel.exchange import Exchange
from axlearn_core.parallel.gathering import GATHERED, gathered
from axlearn_core.parallel.mesh import MESH_AXES, infer_mesh_shape, make_mesh, network_domains
from axlearn_core.parallel.per_device import device_count, device_shape, dividing_axes, per_device
from axlearn_core.parallel.pipeline import (
    PipelineShape,
    Work,
    circular,
    join_rows,
    microbatch_of,
    split_rows,
)
from axlearn_core.parallel.pipeline_loss import PipelineLoss, one_forward_one_backward
from axlearn_core.parallel.sharding import (
    DEFAULT_RULES,
    Placement,
    check_rules,
    constrain,
    constrain_gradient,
    constrain_weight,
    current_placement,
    current_platform,
    mesh_axes,
    parameter_shardings,
    partition_spec,
    placing,
    product_with_weight,
)
from axlearn_core.parallel.usage import check_axes_are_used, whole_parameters
from axlearn_core.parallel.weight_gradient import exchanging, weight_product, weight_rows

__all__ = [
    "DEFAULT_RULES",
    "GATHERED",
    "MESH_AXES",
    "Exchange",
    "PipelineLoss",
    "PipelineShape",
    "Placement",
    "ProcessError",
    "Work",
    "check_agreement",
    "check_axes_are_used",
    "check_rules",
    "circular",
    "constrain",
    "constrain_gradient",
    "constrain_weight",
    "current_placement",
    "current_platform",
    "device_count",
    "device_shape",
    "dividing_axes",
    "exchanging",
    "from_first",
    "gather_texts",
    "gathered",
    "infer_mesh_shape",
    "is_first",
    "join_rows",
    "joined",
    "make_mesh",
    "mesh_axes",
    "microbatch_of",
    "network_domains",
    "one_forward_one_backward",
    "parameter_shardings",
    "partition_spec",
    "per_device",
    "placing",
    "product_with_weight",
    "raise_together",
    "split_rows",
    "wait_for_all",
    "weight_product",
    "weight_rows",
    "whole_parameters",
]
