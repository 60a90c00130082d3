from axlearn_core.config import replace
from axlearn_layers import Norm
from dynamic_tanh.norm import DynamicTanh


def apply(cfg):
    replace(cfg, Norm, DynamicTanh.default_config())
    return cfg
