"""An experiment of one's own, without a package: a small language model that learns a Markov chain.

axl train my_experiment:chain --dir runs/chain       # from this folder
python my_experiment.py                               # the same, from Python
"""

from pathlib import Path

from axlearn_core.config import replace
from axlearn_core.training import Evaluation, Trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers import CausalLM, GatedFeedForward, LayerNorm, Norm, Repeat, Rotary
from axlearn_learners import AdamW, OptaxLearner, WarmupCosine


def chain() -> Trainer.Config:
    """The best possible loss is ln 4 = 1.386: each token has four equally likely successors."""
    stack = Repeat.default_config().set(num_layers=2)
    stack.layer.attention.set(num_heads=4, qkv=Rotary.default_config())
    stack.layer.feed_forward = GatedFeedForward.default_config().set(hidden_dim=176)
    model = CausalLM.default_config().set(vocab_size=64, dim=64, stack=stack)

    rate = WarmupCosine.default_config().set(peak=1e-2, warmup=10)
    optimizer = AdamW.default_config().set(learning_rate=rate)
    data = SyntheticInput.default_config().set(vocab_size=64, seq_len=64, batch_size=8)
    cfg = Trainer.default_config().set(
        model=model,
        learner=OptaxLearner.default_config().set(optimizer=optimizer),
        input=data,
        max_step=200,
    )
    cfg.evaluations = {"chain": Evaluation.default_config().set(input=data.clone(num_batches=8))}
    return cfg


def chain_with_layer_norm() -> Trainer.Config:
    """The same with other norms, wherever there are any: no line of the model changes."""
    cfg = chain()
    replace(cfg, Norm, LayerNorm.default_config())
    return cfg


if __name__ == "__main__":
    result = chain().instantiate().run(Path("runs/chain"))
    print(f"loss {result.values['train']['loss']:.3f}, at best 1.386")
