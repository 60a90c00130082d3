from axlearn_core.config import replace
from axlearn_layers import FeedForward
from switch_experts.experts import SwitchExperts


def apply(cfg):
    replace(cfg, FeedForward, SwitchExperts.default_config())
    return cfg
