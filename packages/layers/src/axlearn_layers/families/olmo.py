"""OLMo 2 (arXiv:2501.00656)."""

from __future__ import annotations

from axlearn_layers import BranchNormBlock, CausalLM, GatedFeedForward, QKNorm, RMSNorm, Rotary
from axlearn_layers.families.decoder import decoder


def olmo2(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    hidden_dim: int,
    theta: float = 500_000.0,
    eps: float = 1e-6,
) -> CausalLM.Config:
    """Norms of what a branch returns, and of queries and keys over all heads (arXiv:2501.00656).

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        hidden_dim: width inside the feed-forward layers.
        theta: base of the rotary wavelengths.
        eps: of all norms.
    """
    norm = RMSNorm.default_config().set(eps=eps)
    block = BranchNormBlock.default_config().set(norm=norm)
    block.attention.set(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        qkv=Rotary.default_config().set(
            theta=theta, inner=QKNorm.default_config().set(norm=norm, across_heads=True)
        ),
    )
    block.feed_forward = GatedFeedForward.default_config().set(hidden_dim=hidden_dim)
    return decoder(
        block, vocab_size=vocab_size, dim=dim, num_layers=num_layers, norm=norm, tied=False
    )
