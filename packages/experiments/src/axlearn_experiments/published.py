"""Published language models, in their exact sizes, each with a recipe to train it.

A recipe is what the model's paper says of its optimizer, schedule, batch and sequences, for
synthetic tokens: set `input` to prepared data of your own. Meshes are what the sizes need at
least; hardware packages know better ones.
"""

from __future__ import annotations

from axlearn_core.config import find
from axlearn_core.training import Model, Trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers import Remat, Repeat, TopKRouter
from axlearn_layers.families import afm, deepseek_v3, llama, qwen3_moe
from axlearn_learners import (
    AdamW,
    AdaStar,
    Constant,
    OptaxLearner,
    Phase,
    Phases,
    Schedule,
    SkipSteps,
    WarmupCosine,
    WarmupStableDecay,
    mup_simple,
)


def trainer(
    model: Model.Config,
    learner: OptaxLearner.Config | SkipSteps.Config,
    *,
    vocab_size: int,
    seq_len: int,
    batch_size: int,
    max_step: int,
) -> Trainer.Config:
    """Synthetic tokens, bfloat16, parameters and optimizer split over all devices.

    Of each block only the residual stream is kept for the backward pass.
    """
    for _, stack in find(model, Repeat):
        stack.remat = Remat.default_config().set(save="block_hidden")
    data = SyntheticInput.default_config().set(
        vocab_size=vocab_size, seq_len=seq_len, batch_size=batch_size
    )
    cfg = Trainer.default_config().set(model=model, learner=learner, input=data, max_step=max_step)
    return cfg.set(compute_dtype="bfloat16", mesh_shape={"fsdp": -1})


def adamw(rate: Schedule.Config) -> OptaxLearner.Config:
    """AdamW as most papers have it: betas 0.9 and 0.95, decay 0.1, gradients clipped at 1."""
    optimizer = AdamW.default_config().set(learning_rate=rate, b2=0.95, weight_decay=0.1)
    return OptaxLearner.default_config().set(optimizer=optimizer)


def adastar(dim: int) -> SkipSteps.Config:
    """AdaStar on muP-simple rates, as in arXiv:2407.21075, section 3.2; see `AdaStar`."""
    schedule = WarmupCosine.default_config().set(peak=1.0, warmup=5000, final_fraction=0.005)
    optimizer = AdaStar.default_config().set(
        learning_rate=0.01, schedule=schedule, weight_decay=3.16e-4
    )
    learner = OptaxLearner.default_config().set(optimizer=optimizer, groups=mup_simple(dim))
    return SkipSteps.default_config().set(learner=learner, max_norm=100.0)


def llama2_7b() -> Trainer.Config:
    """6.7B parameters (arXiv:2307.09288): 2T tokens in batches of 4M."""
    model = llama(
        vocab_size=32_000,
        dim=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=32,
        hidden_dim=11_008,
        eps=1e-5,
    )
    return _llama2(model, peak=3e-4)


def llama2_70b() -> Trainer.Config:
    """69B parameters with grouped queries (arXiv:2307.09288): 2T tokens in batches of 4M."""
    model = llama(
        vocab_size=32_000,
        dim=8192,
        num_layers=80,
        num_heads=64,
        num_kv_heads=8,
        hidden_dim=28_672,
        eps=1e-5,
    )
    return _llama2(model, peak=1.5e-4)


def _llama2(model: Model.Config, *, peak: float) -> Trainer.Config:
    rate = WarmupCosine.default_config().set(peak=peak, warmup=2000, final_fraction=0.1)
    return trainer(
        model, adamw(rate), vocab_size=32_000, seq_len=4096, batch_size=1024, max_step=477_000
    )


def llama3_8b() -> Trainer.Config:
    """8.0B parameters (arXiv:2407.21783): 15T tokens of 8192.

    The paper's batch grows from 4M tokens to 16M; here it is 8M from the beginning.
    """
    model = llama(
        vocab_size=128_256,
        dim=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        hidden_dim=14_336,
        theta=500_000.0,
        eps=1e-5,
    )
    rate = WarmupCosine.default_config().set(peak=3e-4, warmup=8000, final_fraction=0.01)
    return trainer(
        model, adamw(rate), vocab_size=128_256, seq_len=8192, batch_size=1024, max_step=1_800_000
    )


def qwen3_30b_a3b() -> Trainer.Config:
    """30.5B parameters, of which 3.3B serve a token (arXiv:2505.09388).

    The report gives no rates; these are common ones. Experts are balanced over the whole batch.
    """
    model = qwen3_moe(
        vocab_size=151_936,
        dim=2048,
        num_layers=48,
        num_heads=32,
        num_kv_heads=4,
        head_dim=128,
        hidden_dim=768,
        num_experts=128,
        top_k=8,
    )
    for _, router in find(model, TopKRouter):
        router.set(balance_loss_scale=0.001, balance_over="batch")
    rate = WarmupCosine.default_config().set(peak=4e-4, warmup=2000, final_fraction=0.1)
    return trainer(
        model, adamw(rate), vocab_size=151_936, seq_len=4096, batch_size=2048, max_step=4_300_000
    )


def deepseek_v3_671b() -> Trainer.Config:
    """671B parameters, of which 37B serve a token (arXiv:2412.19437): 14.8T tokens of 4096.

    Without the module that predicts a second token (`MultiTokenLM` adds it). The paper's batch
    grows from 3072 sequences to 15,360 over the first 469B tokens; here it is constant.
    """
    model = deepseek_v3(
        vocab_size=129_280,
        dim=7168,
        num_layers=61,
        num_dense_layers=3,
        num_heads=128,
        query_rank=1536,
        kv_rank=512,
        hidden_dim=18_432,
        expert_hidden_dim=2048,
        num_experts=256,
        top_k=8,
        num_groups=8,
        top_groups=4,
    )
    peak, tokens = 2.2e-4, 15_360 * 4096
    phases = {
        "stable": Phase(
            schedule=WarmupStableDecay.default_config().set(peak=peak, warmup=2000, decay=0),
            steps=round(10e12 / tokens),
        ),
        "cosine": Phase(
            schedule=WarmupCosine.default_config().set(peak=peak, warmup=0, final_fraction=0.1),
            steps=round(4.3e12 / tokens),
        ),
        "low": Phase(
            schedule=Constant.default_config().set(value=2.2e-5), steps=round(333e9 / tokens)
        ),
        "lowest": Phase(schedule=Constant.default_config().set(value=7.3e-6)),
    }
    return trainer(
        model,
        adamw(Phases.default_config().set(phases=phases)),
        vocab_size=129_280,
        seq_len=4096,
        batch_size=15_360,
        max_step=round(14.8e12 / tokens),
    )


def afm_on_device() -> Trainer.Config:
    """2.7B parameters (arXiv:2407.21075, table 1): 6.3T tokens in batches of 17M.

    The paper prunes a larger model and distils it; the recipe is that of its core training.
    """
    model = afm(
        vocab_size=49_152,
        dim=3072,
        num_layers=26,
        num_heads=24,
        num_kv_heads=8,
        head_dim=128,
        hidden_dim=8064,
    )
    return _afm(model, vocab_size=49_152, dim=3072)


def afm_on_device_2025() -> Trainer.Config:
    """3.1B parameters, 21 of 56 layers on the keys of the 35th (arXiv:2507.13575).

    The recipe is that of 2024.
    """
    model = afm(
        vocab_size=153_600,
        dim=2048,
        num_layers=56,
        num_sharing_layers=21,
        num_heads=16,
        num_kv_heads=2,
        head_dim=128,
        hidden_dim=6656,
    )
    return _afm(model, vocab_size=153_600, dim=2048)


def afm_draft_2025() -> Trainer.Config:
    """49M parameters, which draft tokens for the on-device model of 2025; its vocabulary."""
    model = afm(
        vocab_size=153_600,
        dim=256,
        num_layers=12,
        num_heads=8,
        num_kv_heads=4,
        head_dim=32,
        hidden_dim=768,
    )
    return _afm(model, vocab_size=153_600, dim=256)


def _afm(model: Model.Config, *, vocab_size: int, dim: int) -> Trainer.Config:
    return trainer(
        model,
        adastar(dim),
        vocab_size=vocab_size,
        seq_len=4096,
        batch_size=4096,
        max_step=376_000,
    )
