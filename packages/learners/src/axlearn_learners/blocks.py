"""Parameter blocks: a stack of layers holds one per layer, and optimizers treat each by itself."""

from __future__ import annotations

from axlearn_core.module.parameters import ParameterSpec

STACKED = "layers"  # the logical axis over which scanned layers are stacked


def stacked_dims(spec: ParameterSpec) -> int:
    """Counts the leading dimensions over which layers are stacked."""
    return next((i for i, name in enumerate(spec.axes) if name != STACKED), len(spec.axes))


def block_dims(spec: ParameterSpec) -> tuple[int, ...]:
    """Returns the dimensions of one layer's parameter."""
    return tuple(range(stacked_dims(spec), len(spec.shape)))
