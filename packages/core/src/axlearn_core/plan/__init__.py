"""What a run would need and how fast it would be, on hardware that is not here."""

from axlearn_core.plan.record import (
    Memory,
    Method,
    PlacedArray,
    Plan,
    Range,
    Times,
    Traffic,
)

__all__ = ["Memory", "Method", "PlacedArray", "Plan", "Range", "Times", "Traffic"]
