"""The models: published families in tiny sizes, and further blocks that they leave out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from axlearn_core.config import replace
from axlearn_core.training import Model
from axlearn_layers import (
    Attention,
    Block,
    BranchNormBlock,
    CausalLM,
    DenseFeedForward,
    GroupNorm,
    LatentAttention,
    LayerNorm,
    Llama3Frequencies,
    MultiTokenLM,
    ParallelBlock,
    PostNormBlock,
    Rotary,
    SandwichBlock,
    SinusoidalPositions,
    TransformerBlock,
    YarnFrequencies,
    families,
)

VOCAB, DIM, HEADS, KV_HEADS, HIDDEN = 64, 32, 4, 2, 48
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "dim": DIM,
    "num_layers": 2,
    "num_heads": HEADS,
    "num_kv_heads": KV_HEADS,
    "hidden_dim": HIDDEN,
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "top_k": 2}
STRETCH: dict[str, Any] = {"factor": 2.0, "original_length": 16}


def published() -> dict[str, Model.Config]:
    """Families of `axlearn_layers`."""
    no_groups = {name: size for name, size in SIZES.items() if name != "num_kv_heads"}
    return {
        "llama": families.llama(**SIZES),
        "llama-3.1": families.llama(
            **SIZES,
            theta=500_000.0,
            frequencies=Llama3Frequencies.default_config().set(**STRETCH),
        ),
        "mistral": families.llama(**SIZES, window=8),
        "gpt-2": families.gpt2(
            vocab_size=VOCAB, dim=DIM, num_layers=2, num_heads=HEADS, max_length=32
        ),
        "qwen-2": families.qwen2(**SIZES),
        "qwen-3": families.qwen3(**SIZES, head_dim=8),
        "qwen-3-moe": families.qwen3_moe(**SIZES, head_dim=8, **EXPERTS),
        "gemma-2": families.gemma2(**SIZES, head_dim=8, score_dim=8, window=4),
        "gemma-3": families.gemma3(**SIZES, head_dim=8, score_dim=8, window=4, local_per_global=1),
        "olmo-2": families.olmo2(**SIZES),
        "phi-3": families.phi3(
            **SIZES,
            rotary_fraction=0.5,
            frequencies=YarnFrequencies.default_config().set(**STRETCH),
        ),
        "mixtral": families.mixtral(**SIZES, **EXPERTS),
        "deepseek-v3": _grouped_queries(
            families.deepseek_v3(
                **no_groups,
                num_dense_layers=1,
                query_rank=16,
                kv_rank=8,
                expert_hidden_dim=16,
                num_groups=2,
                top_groups=1,
                **EXPERTS | {"top_k": 1},
            )
        ),
        "afm": families.afm(**SIZES, head_dim=8),
        "bert": families.bert(**no_groups, max_length=32),
    }


def composed() -> dict[str, Model.Config]:
    """Other blocks, norms, feed-forward layers, positions and heads than these families have."""
    dense = DenseFeedForward.default_config().set(hidden_dim=HIDDEN)
    layer_norm = LayerNorm.default_config()
    group_norm = GroupNorm.default_config().set(num_groups=4)
    neox = _of(ParallelBlock, feed_forward=dense, norm=layer_norm)
    replace(neox, Rotary, Rotary.default_config().set(fraction=0.25))
    first = _of(PostNormBlock, feed_forward=dense.clone(activation="relu"), norm=layer_norm)
    bloom = _of(TransformerBlock, feed_forward=dense, norm=layer_norm)
    dropout = families.llama(**SIZES)
    dropout.dropout.rate = 0.1
    look_ahead = families.llama(**SIZES)
    depth = MultiTokenLM.Config().depth.set(layer=look_ahead.stack.layer)
    return {
        "palm": _of(ParallelBlock),
        "gpt-neox": neox,
        "transformer-2017": first.set(positions=SinusoidalPositions.default_config()),
        "bloom": bloom.set(embedding_norm=layer_norm),
        "cogview": _of(SandwichBlock, norm=layer_norm),
        "group-norm": _of(BranchNormBlock, norm=group_norm),
        "granite": _of(TransformerBlock, branch_scale=0.5),
        "dropout": dropout,
        "multi-token": MultiTokenLM.default_config().set(lm=look_ahead, depth=depth),
    }


def models() -> dict[str, Model.Config]:
    """All of them, by name."""
    return published() | composed()


def _of(block: Callable[..., Any], **parts: Any) -> CausalLM.Config:
    """A Llama of other blocks."""
    model = families.llama(**SIZES)
    made = block.default_config().set(**parts)  # type: ignore[attr-defined]
    replace(model, Block, made)
    if "norm" in parts:
        model.norm = parts["norm"]
    return model


def _grouped_queries(model: CausalLM.Config) -> CausalLM.Config:
    """Attention from which all variants can be made."""
    plain = Attention.default_config().set(num_kv_heads=KV_HEADS, qkv=Rotary.default_config())
    replace(model, LatentAttention, plain)
    return model
