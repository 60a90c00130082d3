"""Optimizers, schedules and the learner, on optax."""

from axlearn_learners.adastar import AdaStar
from axlearn_learners.clipping import clip_by_global_norm, global_norm
from axlearn_learners.decoupled import DecoupledAdamW, DecoupledOptimizer
from axlearn_learners.learner import OptaxLearner
from axlearn_learners.optimizers import AdamW, Optimizer
from axlearn_learners.schedules import Constant, Schedule, WarmupCosine, WarmupStableDecay
from axlearn_learners.skip import SkipSteps

__all__ = [
    "AdaStar",
    "AdamW",
    "Constant",
    "DecoupledAdamW",
    "DecoupledOptimizer",
    "OptaxLearner",
    "Optimizer",
    "Schedule",
    "SkipSteps",
    "WarmupCosine",
    "WarmupStableDecay",
    "clip_by_global_norm",
    "global_norm",
]
