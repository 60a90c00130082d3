from axlearn_core.config import replace
from axlearn_layers import Projection
from rank_stabilized_lora.adapter import RankStabilizedLoRA


def apply(cfg):
    replace(cfg, Projection, lambda old: RankStabilizedLoRA.default_config().set(inner=old))
    return cfg
