"""Optimizers, schedules and the learner, on optax."""

from axlearn_core.training.schedule import Schedule
from axlearn_learners.adafactor import Adafactor
from axlearn_learners.adam_variants import ADOPT, LAMB, AdEMAMix
from axlearn_learners.adastar import AdaStar
from axlearn_learners.averaging import AverageWeights
from axlearn_learners.blocks import per_layer
from axlearn_learners.clipping import clip_by_global_norm, global_norm
from axlearn_learners.decoupled import DecoupledAdamW, DecoupledOptimizer
from axlearn_learners.groups import ParameterGroup
from axlearn_learners.learner import OptaxLearner
from axlearn_learners.momentum import SGD, Lion
from axlearn_learners.muon import Muon
from axlearn_learners.mup import mup_simple
from axlearn_learners.optimizers import AdamW, DecayedOptimizer, Optimizer
from axlearn_learners.phases import Phase, Phases, Piecewise
from axlearn_learners.schedule_free import ScheduleFreeAdamW
from axlearn_learners.schedules import (
    Constant,
    InverseSquareRoot,
    WarmupCosine,
    WarmupLinear,
    WarmupStableDecay,
)
from axlearn_learners.skip import SkipSteps

__all__ = [
    "ADOPT",
    "AdEMAMix",
    "AdaStar",
    "Adafactor",
    "AdamW",
    "AverageWeights",
    "Constant",
    "DecayedOptimizer",
    "DecoupledAdamW",
    "DecoupledOptimizer",
    "InverseSquareRoot",
    "LAMB",
    "Lion",
    "Muon",
    "OptaxLearner",
    "Optimizer",
    "ParameterGroup",
    "Phase",
    "Phases",
    "Piecewise",
    "SGD",
    "Schedule",
    "ScheduleFreeAdamW",
    "SkipSteps",
    "WarmupCosine",
    "WarmupLinear",
    "WarmupStableDecay",
    "clip_by_global_norm",
    "global_norm",
    "mup_simple",
    "per_layer",
]
