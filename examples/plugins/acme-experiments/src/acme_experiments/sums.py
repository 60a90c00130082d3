"""An experiment: a function that returns a trainer's config."""

from __future__ import annotations

from acme_attention import DifferentialAttention, XPos
from acme_optimizers import CautiousAdamW, SquareRootCooldown
from acme_sums import AlphabetTokenizer, Sums
from axlearn_core.config import replace
from axlearn_core.training import Evaluation, Trainer
from axlearn_layers import Attention, Rotary
from axlearn_layers.families import llama
from axlearn_learners import OptaxLearner, WarmupLinear


def sums() -> Trainer.Config:
    """A Llama with the parts of three plugins learns to add numbers below ten."""
    tokenizer = AlphabetTokenizer.default_config()
    data = Sums.default_config().set(digits=1, seq_len=64, batch_size=16, tokenizer=tokenizer)
    model = llama(
        vocab_size=tokenizer.instantiate().vocab_size,
        dim=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        hidden_dim=128,
    )
    replace(model, Rotary, XPos.default_config())
    replace(model, Attention, DifferentialAttention.default_config())

    constant = WarmupLinear.default_config().set(peak=1e-2, warmup=10, final_fraction=1.0)
    rate = SquareRootCooldown.default_config().set(schedule=constant, cooldown=0.4)
    optimizer = CautiousAdamW.default_config().set(learning_rate=rate)
    cfg = Trainer.default_config().set(
        model=model,
        learner=OptaxLearner.default_config().set(optimizer=optimizer),
        input=data,
        max_step=80,
    )
    cfg.evaluations = {"new": Evaluation.Config(input=data.clone(seed=1, num_batches=4))}
    return cfg
