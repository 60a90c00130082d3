"""Phi-3 (arXiv:2404.14219)."""

from __future__ import annotations

from axlearn_layers import (
    CausalLM,
    GatedFeedForward,
    RMSNorm,
    Rotary,
    RotaryFrequencies,
    TransformerBlock,
)
from axlearn_layers.families.decoder import causal_mask, decoder


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
