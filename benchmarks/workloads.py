"""The workloads of the hand-written baselines, as configs of this project."""

from __future__ import annotations

from axlearn_core.config import replace
from axlearn_core.training import Trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers import FeedForward, MixtureOfExperts
from axlearn_layers.families import llama
from axlearn_learners import AdamW, OptaxLearner

# Widths, depths and sizes as in the baselines' own table.
SIZES = {
    "small": {"d": 512, "L": 8, "H": 8, "KV": 4, "F": 1408, "V": 32768, "S": 512, "B": 4},
    "tiny": {"d": 128, "L": 4, "H": 4, "KV": 4, "F": 352, "V": 512, "S": 128, "B": 8},
    "deep": {"d": 128, "L": 32, "H": 4, "KV": 4, "F": 352, "V": 512, "S": 128, "B": 8},
}
# As small, but for 8 experts of half the width, of which every token has 2.
SIZES["moe"] = SIZES["small"] | {"F": 704}


def workload(name: str) -> Trainer.Config:
    """Returns a trainer of one workload: AdamW, clip 1.0, float32, synthetic tokens."""
    size = SIZES[name]
    model = llama(
        vocab_size=size["V"],
        dim=size["d"],
        num_layers=size["L"],
        num_heads=size["H"],
        num_kv_heads=size["KV"],
        hidden_dim=size["F"],
    )
    if name == "moe":
        replace(model, FeedForward, MixtureOfExperts.default_config().set(num_experts=8, top_k=2))
    optimizer = AdamW.default_config().set(learning_rate=3e-4)
    data = SyntheticInput.default_config().set(
        vocab_size=size["V"], seq_len=size["S"], batch_size=size["B"]
    )
    cfg = Trainer.default_config().set(
        model=model,
        learner=OptaxLearner.default_config().set(optimizer=optimizer),
        input=data,
        max_step=1000,
        compile_cache=None,
    )
    cfg.checkpoint.every = None
    return cfg


def tiny() -> Trainer.Config:
    """For `axl train workloads:tiny`."""
    return workload("tiny")


def small() -> Trainer.Config:
    """For `axl train workloads:small`."""
    return workload("small")
