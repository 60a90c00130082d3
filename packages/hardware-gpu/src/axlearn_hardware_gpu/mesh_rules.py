"""What to do with how many GPUs. Parameters are sharded within a node, where NVLink is fast."""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import MeshRule

WITHOUT_NVLINK: Final = MeshRule.Config(mesh_shape={"data": -1}, compute_dtype="bfloat16")
ONE_DOMAIN: Final = MeshRule.Config(mesh_shape={"fsdp": -1}, compute_dtype="bfloat16")
NODES_OF_8: Final = MeshRule.Config(mesh_shape={"data": -1, "fsdp": 8}, compute_dtype="bfloat16")
