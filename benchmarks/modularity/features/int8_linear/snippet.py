from axlearn_core.config import replace
from axlearn_layers import Linear
from int8_linear.linear import Int8Linear


def apply(cfg):
    replace(cfg, Linear, Int8Linear.default_config())
    return cfg
