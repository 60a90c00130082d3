"""Phi-3 (arXiv:2404.14219)."""

from __future__ import annotations

from axlearn_experiments.families.decoder import causal_mask, decoder
from axlearn_experiments.families.rules import OUTPUT, PRE_NORMS, decoder_mapping
from axlearn_experiments.weights import Rule
from axlearn_layers import (
    CausalLM,
    GatedFeedForward,
    RMSNorm,
    Rotary,
    RotaryFrequencies,
    TransformerBlock,
)


def phi3(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    hidden_dim: int,
    theta: float = 10_000.0,
    rotary_fraction: float = 1.0,
    frequencies: RotaryFrequencies.Config | None = None,
    window: int | None = None,
    eps: float = 1e-5,
    tied: bool = False,
) -> CausalLM.Config:
    """Llama, published with fused projections (arXiv:2404.14219).

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        hidden_dim: width inside the feed-forward layers.
        theta: base of the rotary wavelengths.
        rotary_fraction: of each head that turns (`partial_rotary_factor`).
        frequencies: how the wavelengths are stretched to longer sequences; None is not at all.
        window: how many tokens a query sees, itself included; None is all before it.
        eps: of the norms.
        tied: whether the output head is the embedding table.
    """
    norm = RMSNorm.default_config().set(eps=eps)
    rotary = Rotary.default_config().set(theta=theta, fraction=rotary_fraction)
    if frequencies is not None:
        rotary.frequencies = frequencies
    block = TransformerBlock.default_config().set(norm=norm)
    block.attention.set(
        num_heads=num_heads, num_kv_heads=num_kv_heads, qkv=rotary, mask=causal_mask(window)
    )
    block.feed_forward = GatedFeedForward.default_config().set(hidden_dim=hidden_dim)
    return decoder(
        block, vocab_size=vocab_size, dim=dim, num_layers=num_layers, norm=norm, tied=tied
    )


PHI3_WEIGHTS = decoder_mapping(
    *PRE_NORMS,
    Rule(
        {"attention/qkv/(inner/)*projection/weight": "embed kv (group + 1 + 1) dim"},
        {"self_attn.qkv_proj.weight": "((kv group dim) + (kv dim) + (kv dim)) embed"},
    ),
    OUTPUT,
    Rule(
        {"feed_forward/gate_up/weight": "embed (1 + 1) mlp"},
        {"mlp.gate_up_proj.weight": "(mlp + mlp) embed"},
    ),
    Rule({"feed_forward/down/weight": "mlp embed"}, {"mlp.down_proj.weight": "embed mlp"}),
)
