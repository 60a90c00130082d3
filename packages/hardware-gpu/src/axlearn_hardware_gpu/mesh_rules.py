"""What to do with how many GPUs. Parameters are sharded where NVLink joins them, if they fit."""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import FitMesh

WITHOUT_NVLINK: Final = FitMesh.Config(domain=1)
NODES_OF_8: Final = FitMesh.Config(domain=8)
NVL72: Final = FitMesh.Config(domain=72)
