"""Qwen2 (arXiv:2407.10671), Qwen2.5 (arXiv:2412.15115) and Qwen3 (arXiv:2505.09388)."""

from __future__ import annotations

from axlearn_layers import (
    CausalLM,
    FusedQKV,
    GatedFeedForward,
    Linear,
    MixtureOfExperts,
    QKNorm,
    RMSNorm,
    Rotary,
    SoftmaxRouter,
    TransformerBlock,
)
from axlearn_layers.families.decoder import decoder


def qwen2(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    hidden_dim: int,
    theta: float = 1e6,
    eps: float = 1e-6,
    tied: bool = False,
) -> CausalLM.Config:
    """Llama with biases of queries, keys and values (arXiv:2407.10671); Qwen2.5 is the same.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        hidden_dim: width inside the feed-forward layers.
        theta: base of the rotary wavelengths.
        eps: of the norms.
        tied: whether the output head is the embedding table, as in the models up to 3B.
    """
    norm = RMSNorm.default_config().set(eps=eps)
    biased = FusedQKV.default_config().set(projection=Linear.default_config().set(bias=True))
    block = TransformerBlock.default_config().set(norm=norm)
    block.attention.set(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        qkv=Rotary.default_config().set(theta=theta, inner=biased),
    )
    block.feed_forward = GatedFeedForward.default_config().set(hidden_dim=hidden_dim)
    return decoder(
        block, vocab_size=vocab_size, dim=dim, num_layers=num_layers, norm=norm, tied=tied
    )


def qwen3(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    hidden_dim: int,
    head_dim: int = 128,
    theta: float = 1e6,
    eps: float = 1e-6,
    tied: bool = False,
) -> CausalLM.Config:
    """Llama with norms of queries and keys, per head (arXiv:2505.09388).

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        hidden_dim: width inside the feed-forward layers.
        head_dim: width of a head.
        theta: base of the rotary wavelengths.
        eps: of all norms.
        tied: whether the output head is the embedding table, as in the models up to 4B.
    """
    block = _block(num_heads, num_kv_heads, head_dim, theta, eps)
    block.feed_forward = GatedFeedForward.default_config().set(hidden_dim=hidden_dim)
    return decoder(
        block, vocab_size=vocab_size, dim=dim, num_layers=num_layers, norm=block.norm, tied=tied
    )


def qwen3_moe(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    hidden_dim: int,
    num_experts: int = 128,
    top_k: int = 8,
    head_dim: int = 128,
    theta: float = 1e6,
    eps: float = 1e-6,
    normalize: bool = True,
) -> CausalLM.Config:
    """Qwen3 with a mixture of experts in each layer (arXiv:2505.09388).

    Routers have no auxiliary loss here; set `balance_loss_scale` of each to train one.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        hidden_dim: width inside one expert (`moe_intermediate_size`).
        num_experts, top_k: experts of a layer, and how many of them a token goes to.
        head_dim: width of a head.
        theta: base of the rotary wavelengths.
        eps: of all norms.
        normalize: whether a token's weights sum to 1 (`norm_topk_prob`).
    """
    block = _block(num_heads, num_kv_heads, head_dim, theta, eps)
    block.feed_forward = MixtureOfExperts.default_config().set(
        hidden_dim=hidden_dim,
        num_experts=num_experts,
        top_k=top_k,
        router=SoftmaxRouter.default_config().set(normalize=normalize),
    )
    return decoder(
        block, vocab_size=vocab_size, dim=dim, num_layers=num_layers, norm=block.norm, tied=False
    )


def _block(
    num_heads: int, num_kv_heads: int, head_dim: int, theta: float, eps: float
) -> TransformerBlock.Config:
    norm = RMSNorm.default_config().set(eps=eps)
    block = TransformerBlock.default_config().set(norm=norm)
    block.attention.set(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        qkv=Rotary.default_config().set(theta=theta, inner=QKNorm.default_config().set(norm=norm)),
    )
    return block
