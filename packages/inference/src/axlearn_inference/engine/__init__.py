"""Continuous batching on a paged cache."""

from axlearn_inference.engine.adapters import Adapters
from axlearn_inference.engine.async_engine import AsyncEngine
from axlearn_inference.engine.engine import Engine, Stats
from axlearn_inference.engine.handover import Handover

__all__ = ["Adapters", "AsyncEngine", "Engine", "Handover", "Stats"]
