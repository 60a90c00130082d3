"""The loop that trains, and the contracts of what it is built from.

`axlearn_core.training.input` needs no jax; asking this package for anything else loads it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from axlearn_core.training.evaluation import Evaluation
    from axlearn_core.training.input import BatchIterator, Input
    from axlearn_core.training.learner import Learner, LearnerUpdate
    from axlearn_core.training.model import Batch, Loss, Model
    from axlearn_core.training.precision import EightBits, Precision
    from axlearn_core.training.result import Result
    from axlearn_core.training.schedule import Schedule, Step
    from axlearn_core.training.trainer import Trainer

_WHERE = {
    "Batch": "model",
    "BatchIterator": "input",
    "EightBits": "precision",
    "Evaluation": "evaluation",
    "Input": "input",
    "Learner": "learner",
    "LearnerUpdate": "learner",
    "Loss": "model",
    "Model": "model",
    "Precision": "precision",
    "Result": "result",
    "Schedule": "schedule",
    "Step": "schedule",
    "Trainer": "trainer",
}

__all__ = [
    "Batch",
    "BatchIterator",
    "EightBits",
    "Evaluation",
    "Input",
    "Learner",
    "LearnerUpdate",
    "Loss",
    "Model",
    "Precision",
    "Result",
    "Schedule",
    "Step",
    "Trainer",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
