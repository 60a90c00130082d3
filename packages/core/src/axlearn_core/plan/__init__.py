"""What a run would need and how fast it would be, on hardware that is not here."""

from axlearn_core.plan.collectives import Collective
from axlearn_core.plan.reading import ProgramReading, read_program
from axlearn_core.plan.record import (
    Memory,
    Method,
    PlacedArray,
    Plan,
    Range,
    Times,
    Traffic,
)

__all__ = [
    "Collective",
    "Memory",
    "Method",
    "PlacedArray",
    "Plan",
    "ProgramReading",
    "Range",
    "Times",
    "Traffic",
    "read_program",
]
