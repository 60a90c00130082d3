"""Faults, made on purpose: `axl drill` shows what a run does with each. Imports no jax."""

from axlearn_core.drill.drill import Drill
from axlearn_core.drill.faults import FAULTS, Fault, Strike

__all__ = ["FAULTS", "Drill", "Fault", "Strike"]
