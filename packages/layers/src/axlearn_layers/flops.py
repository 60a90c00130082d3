"""Counts a model's floating point operations, for its utilisation of the hardware (MFU)."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from axlearn_core.module import Layer


@runtime_checkable
class CountsFlops(Protocol):
    """A layer that does something else than to multiply each token by every weight once."""

    def flops_per_token(self, seq_length: int) -> float:
        """Returns the operations of its forward pass, children included, for one token."""
        ...


def flops_per_token(layer: Layer, seq_length: int) -> float:
    """Returns the operations of a layer's forward pass for one token of a sequence."""
    if isinstance(layer, CountsFlops):
        return layer.flops_per_token(seq_length)
    return matmul_flops_per_token(layer, seq_length)


def matmul_flops_per_token(layer: Layer, seq_length: int) -> float:
    """Counts a multiplication and an addition per weight, and what the children say."""
    shapes = [spec.shape for spec in layer.own_parameters().values()]
    own = sum(2.0 * math.prod(shape) for shape in shapes if len(shape) > 1)
    children = (child for child in layer.children.values() if isinstance(child, Layer))
    return own + sum(flops_per_token(child, seq_length) for child in children)
