"""Language models of text, from a laptop's to a pod's.

An experiment is a function that returns a trainer's config. They share the family `llama`; the rest
of each function is what makes it different.
"""

from __future__ import annotations

from axlearn_core.training import Evaluation, Input, Model, Trainer
from axlearn_inputs import PackedInput, PrepareSpec, SentencePieceTrainer, SyntheticInput
from axlearn_layers.families import llama
from axlearn_learners import AdamW, OptaxLearner, WarmupCosine


def moby_dick(*, vocab_size: int, seq_len: int, batch_size: int) -> PackedInput.Config:
    """The bundled novel: `axl data prepare EXPERIMENT` trains its tokenizer and packs it."""
    source = PrepareSpec(
        task="moby_dick",
        tokenizer=SentencePieceTrainer.default_config().set(vocab_size=vocab_size),
        seq_len=seq_len,
    )
    directory = f"prepared/moby_dick-{vocab_size}-{seq_len}"
    return PackedInput.default_config().set(
        source=source, directory=directory, batch_size=batch_size
    )


def trainer(
    model: Model.Config, data: Input.Config, *, peak_rate: float, max_step: int
) -> Trainer.Config:
    """AdamW with a linear warm-up and half a cosine: what the experiments start from."""
    rate = WarmupCosine.default_config().set(peak=peak_rate, warmup=0.08, final_fraction=0.05)
    optimizer = AdamW.default_config().set(learning_rate=rate)
    learner = OptaxLearner.default_config().set(optimizer=optimizer)
    return Trainer.default_config().set(model=model, learner=learner, input=data, max_step=max_step)


def held_out(data: PackedInput.Config, *, every: int | None) -> Evaluation.Config:
    """One pass over the chapters that training does not see."""
    once = data.clone(split="validation", num_epochs=1, batch_size=32)
    return Evaluation.default_config().set(input=once, every=every)


def quickstart() -> Trainer.Config:
    """1.3M parameters learn Moby Dick in a minute or two on two CPU cores."""
    data = moby_dick(vocab_size=4096, seq_len=128, batch_size=8)
    model = llama(
        vocab_size=4096,
        dim=128,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        hidden_dim=352,
        tied=True,
        embedding_scale=128**0.5,
    )
    cfg = trainer(model, data, peak_rate=3e-3, max_step=600)
    cfg.evaluations = {"held_out": held_out(data, every=150)}
    cfg.checkpoint.every = 100
    return cfg.set(log_every=25)


def markov() -> Trainer.Config:
    """80k parameters learn a random Markov chain: no data, seconds to a loss near ln 4 = 1.386.

    What a new layer, loss or optimizer is tried with first.
    """
    data = SyntheticInput.default_config().set(vocab_size=64, seq_len=64, batch_size=8)
    model = llama(vocab_size=64, dim=64, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=128)
    cfg = trainer(model, data, peak_rate=1e-2, max_step=100)
    cfg.evaluations = {"chain": Evaluation.default_config().set(input=data.clone(num_batches=8))}
    return cfg


def llama_tiny() -> Trainer.Config:
    """10M parameters on the bundled novel: minutes on a GPU, an hour or so on a laptop."""
    data = moby_dick(vocab_size=4096, seq_len=256, batch_size=16)
    model = llama(
        vocab_size=4096, dim=320, num_layers=6, num_heads=5, num_kv_heads=5, hidden_dim=896
    )
    cfg = trainer(model, data, peak_rate=2e-3, max_step=2000)
    cfg.evaluations = {"held_out": held_out(data, every=200)}
    return cfg


def llama_85m() -> Trainer.Config:
    """85M parameters besides the embeddings, GPT-2 small's size, for one GPU.

    The tokens are synthetic; for real ones set `input` to prepared data of your own.
    """
    data = SyntheticInput.default_config().set(vocab_size=32_768, seq_len=1024, batch_size=64)
    model = llama(
        vocab_size=32_768, dim=768, num_layers=12, num_heads=12, num_kv_heads=12, hidden_dim=2048
    )
    cfg = trainer(model, data, peak_rate=6e-4, max_step=20_000)
    cfg.compute_dtype = "bfloat16"
    return cfg


def llama_1b() -> Trainer.Config:
    """1.2B parameters in the shape of Llama 3.2 1B, for one node of eight accelerators."""
    data = SyntheticInput.default_config().set(vocab_size=128_256, seq_len=4096, batch_size=256)
    model = llama(
        vocab_size=128_256,
        dim=2048,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        hidden_dim=8192,
        theta=500_000.0,
        tied=True,
        embedding_scale=2048**0.5,
    )
    cfg = trainer(model, data, peak_rate=3e-4, max_step=100_000)
    return cfg.set(compute_dtype="bfloat16", mesh_shape={"fsdp": -1})
