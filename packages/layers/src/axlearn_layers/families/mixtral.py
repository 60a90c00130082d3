"""Mixtral (arXiv:2401.04088)."""

from __future__ import annotations

from axlearn_layers import CausalLM, MixtureOfExperts, RMSNorm, Rotary, TransformerBlock
from axlearn_layers.families.decoder import causal_mask, decoder


def mixtral(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    hidden_dim: int,
    head_dim: int | None = None,
    num_experts: int = 8,
    top_k: int = 2,
    theta: float = 1e6,
    window: int | None = None,
    eps: float = 1e-5,
) -> CausalLM.Config:
    """Mistral with a mixture of experts in each layer (arXiv:2401.04088).

    Routers have no auxiliary loss here; set `balance_loss_scale` of each to train one.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        hidden_dim: width inside one expert.
        head_dim: width of a head; None is dim / num_heads.
        num_experts, top_k: experts of a layer, and how many of them a token goes to.
        theta: base of the rotary wavelengths.
        window: how many tokens a query sees, itself included; None is all before it.
        eps: of the norms.
    """
    norm = RMSNorm.default_config().set(eps=eps)
    block = TransformerBlock.default_config().set(norm=norm)
    block.attention.set(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        qkv=Rotary.default_config().set(theta=theta),
        mask=causal_mask(window),
    )
    block.feed_forward = MixtureOfExperts.default_config().set(
        hidden_dim=hidden_dim, num_experts=num_experts, top_k=top_k
    )
    return decoder(
        block, vocab_size=vocab_size, dim=dim, num_layers=num_layers, norm=norm, tied=False
    )
