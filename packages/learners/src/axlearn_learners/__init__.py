"""Optimizers, schedules and the learner, on optax."""

from axlearn_learners.clipping import clip_by_global_norm, global_norm
from axlearn_learners.learner import OptaxLearner
from axlearn_learners.optimizers import AdamW, Optimizer
from axlearn_learners.schedules import Constant, Schedule, WarmupCosine, WarmupStableDecay

__all__ = [
    "AdamW",
    "Constant",
    "OptaxLearner",
    "Optimizer",
    "Schedule",
    "WarmupCosine",
    "WarmupStableDecay",
    "clip_by_global_norm",
    "global_norm",
]
