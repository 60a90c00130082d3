"""What to do with how many TPUs. Parameters are sharded within a slice, where ICI is fast."""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import MeshRule

ONE_SLICE: Final = MeshRule.Config(mesh_shape={"fsdp": -1}, compute_dtype="bfloat16")
SLICES_OF_256: Final = MeshRule.Config(
    mesh_shape={"data": -1, "fsdp": 256}, compute_dtype="bfloat16"
)
