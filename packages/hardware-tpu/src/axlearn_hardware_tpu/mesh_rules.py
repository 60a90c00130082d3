"""What to do with how many TPUs. Parameters are sharded within a slice, where ICI is fast."""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import FitMesh

ONE_SLICE: Final = FitMesh.Config()
SLICES_OF_256: Final = FitMesh.Config(domain=256)
