from axlearn_core.config import replace
from axlearn_layers import RotaryFrequencies
from p_rope.frequencies import PRoPE


def apply(cfg):
    replace(cfg, RotaryFrequencies, PRoPE.default_config())
    return cfg
