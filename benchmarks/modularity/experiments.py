"""Models x attention variants x stacks: the experiments that features are brought to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

from axlearn_core.config import find, merged, replace
from axlearn_core.kernels import window
from axlearn_core.training import Model, Trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers import (
    Alibi,
    Attention,
    AttentionLayer,
    Block,
    FusedQKV,
    LatentAttention,
    LayerList,
    LayerNorm,
    Linear,
    QKNorm,
    Repeat,
    Rotary,
    SeparateQKV,
    Stack,
    scanned_pattern,
)
from axlearn_learners import SGD, AdamW, Lion, OptaxLearner, Optimizer, WarmupCosine
from modularity.models import HEADS, VOCAB, models

DEPTH = 3


class Experiment(NamedTuple):
    """One point of the grid."""

    model: str
    variant: str
    stack: str
    config: Trainer.Config

    @property
    def name(self) -> str:
        return f"{self.model}/{self.variant}/{self.stack}"


# Attention variants: each makes another attention of a model's own.


def multi_head(attention: Attention.Config) -> AttentionLayer.Config:
    return attention.set(num_kv_heads=HEADS)


def grouped_query(attention: Attention.Config) -> AttentionLayer.Config:
    return attention.set(num_kv_heads=HEADS // 2)


def multi_query(attention: Attention.Config) -> AttentionLayer.Config:
    return attention.set(num_kv_heads=1)


def windowed(attention: Attention.Config) -> AttentionLayer.Config:
    return attention.set(mask=attention.mask & window(5))


def separate(attention: Attention.Config) -> AttentionLayer.Config:
    """Queries, keys and values each of their own projection."""
    replace(attention, FusedQKV, SeparateQKV.default_config())
    return attention


def qk_norm(attention: Attention.Config) -> AttentionLayer.Config:
    """Layer norms of queries and keys, around or instead of what there is."""
    normed = QKNorm.default_config().set(norm=LayerNorm.default_config())
    kind = QKNorm if find(attention, QKNorm) else FusedQKV
    replace(attention, kind, lambda old: normed.set(inner=getattr(old, "inner", old)))
    return attention


def sinks(attention: Attention.Config) -> AttentionLayer.Config:
    return attention.set(sinks=True)


def gated(attention: Attention.Config) -> AttentionLayer.Config:
    return attention.set(gate=Linear.default_config())


def alibi(attention: Attention.Config) -> AttentionLayer.Config:
    """A linear bias of the scores instead of rotary positions."""
    if find(attention, Rotary):
        replace(attention, Rotary, lambda old: old.inner)
    return attention.set(bias=Alibi.default_config())


def latent(attention: Attention.Config) -> AttentionLayer.Config:
    """Multi-head latent attention; what else the old one says is carried over."""
    sizes = {"query_rank": 16, "kv_rank": 8, "content_dim": 8, "rotary_dim": 4, "value_dim": 8}
    made = merged(attention, LatentAttention.default_config().set(**sizes))[0]
    for _, rotary in find(attention, Rotary):
        made = merged(rotary, made)[0]  # the wavelengths
    return made


Variant = Callable[[Attention.Config], AttentionLayer.Config]
VARIANTS: dict[str, Variant] = {
    function.__name__: function
    for function in (
        grouped_query,
        multi_head,
        multi_query,
        windowed,
        separate,
        qk_norm,
        sinks,
        gated,
        alibi,
        latent,
    )
}


# Stacks: each arranges a model's different blocks in its own way.


def unrolled(blocks: Sequence[Block.Config]) -> Stack.Config:
    """A list of layers."""
    return LayerList.default_config().set(layers=list(islice(cycle(blocks), DEPTH)))


def repeated(blocks: Sequence[Block.Config]) -> Stack.Config:
    """One scan over layers, or over periods of layers of several kinds."""
    period = LayerList.default_config().set(layers=list(blocks))
    layer = blocks[0] if len(blocks) == 1 else period
    return Repeat.default_config().set(layer=layer, num_layers=DEPTH)


def pattern(blocks: Sequence[Block.Config]) -> Stack.Config:
    """A scanned pattern that begins with a local layer, and what of it is left at the end."""
    local = blocks[0].clone()
    for _, attention in find(local, AttentionLayer):
        attention.mask = attention.mask & window(3)
    layers = [local, *blocks]
    return scanned_pattern(layers, 2 * len(layers) + 1)


STACKS: dict[str, Callable[[Sequence[Block.Config]], Stack.Config]] = {
    "unrolled": unrolled,
    "repeated": repeated,
    "pattern": pattern,
}

OPTIMIZERS: tuple[Optimizer.Config, ...] = (
    AdamW.default_config().set(learning_rate=1e-3),
    AdamW.default_config().set(
        learning_rate=WarmupCosine.default_config().set(peak=1e-3, warmup=2)
    ),
    Lion.default_config().set(learning_rate=1e-4),
    SGD.default_config().set(learning_rate=1e-2),
)


def experiments(chosen: Collection[str] | None = None) -> Iterator[Experiment]:
    """Yields the grid, or what of it is of some models."""
    for index, (model_name, model) in enumerate(models().items()):
        if chosen is not None and model_name not in chosen:
            continue
        for variant_name, variant in VARIANTS.items():
            varied = model.clone()
            replace(varied, Attention, variant)
            for stack_name, arrange in STACKS.items():
                config = _trainer(_stacked(varied, arrange), OPTIMIZERS[index % len(OPTIMIZERS)])
                yield Experiment(model_name, variant_name, stack_name, config)


def _stacked(model: Any, arrange: Callable[[Sequence[Block.Config]], Stack.Config]) -> Any:
    model = model.clone()
    holder = getattr(model, "lm", model)
    blocks: list[Block.Config] = []
    for _, block in find(holder.stack, Block):
        if block not in blocks:
            blocks.append(block)  # type: ignore[arg-type]
    holder.stack = arrange(blocks)
    return model


def _trainer(model: Model.Config, optimizer: Optimizer.Config) -> Trainer.Config:
    data = SyntheticInput.default_config().set(vocab_size=VOCAB, seq_len=16, batch_size=4)
    learner = OptaxLearner.default_config().set(optimizer=optimizer)
    cfg = Trainer.default_config().set(model=model, learner=learner, input=data, max_step=10)
    return cfg.set(mesh_shape={}, compile_cache=None)
