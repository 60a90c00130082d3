"""Differential attention, and rotary positions that fade."""

from acme_attention.differential import DifferentialAttention
from acme_attention.xpos import XPos

__all__ = ["DifferentialAttention", "XPos"]
