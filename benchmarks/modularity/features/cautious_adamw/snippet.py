from axlearn_core.config import replace
from axlearn_learners import Optimizer
from cautious_adamw.optimizer import CautiousAdamW


def apply(cfg):
    replace(cfg, Optimizer, CautiousAdamW.default_config())
    return cfg
