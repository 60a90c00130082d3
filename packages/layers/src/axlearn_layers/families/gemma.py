"""Gemma 2 (arXiv:2408.00118) and the text model of Gemma 3 (arXiv:2503.19786)."""

from __future__ import annotations

from axlearn_core.kernels import Mask
from axlearn_layers import (
    CausalLM,
    GatedFeedForward,
    QKNorm,
    RMSNorm,
    Rotary,
    RotaryFrequencies,
    SandwichBlock,
)
from axlearn_layers.families.decoder import causal_mask, decoder


def gemma2(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    hidden_dim: int,
    head_dim: int = 256,
    score_dim: int = 256,
    theta: float = 10_000.0,
    window: int = 4096,
    attention_cap: float = 50.0,
    logit_cap: float = 30.0,
    eps: float = 1e-6,
) -> CausalLM.Config:
    """Norms before and after, soft caps, every other layer local (arXiv:2408.00118).

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks, at least 2.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        hidden_dim: width inside the feed-forward layers.
        head_dim: width of a head.
        score_dim: scores are scaled by score_dim ** -0.5 (`query_pre_attn_scalar`).
        theta: base of the rotary wavelengths.
        window: how many tokens a query of the local layers sees, itself included.
        attention_cap, logit_cap: soft caps of scores and logits.
        eps: of the norms.
    """

    def block(mask: Mask) -> SandwichBlock.Config:
        block = _block(hidden_dim, eps)
        block.attention.set(
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            qkv=Rotary.default_config().set(theta=theta),
            mask=mask,
            scale=score_dim**-0.5,
            logit_cap=attention_cap,
        )
        return block

    model = decoder(
        block(causal_mask(window)),
        block(causal_mask()),
        vocab_size=vocab_size,
        dim=dim,
        num_layers=num_layers,
        norm=_norm(eps),
        tied=True,
        embedding_scale=dim**0.5,
    )
    return model.set(logit_cap=logit_cap)


def gemma3(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    hidden_dim: int,
    head_dim: int = 256,
    score_dim: int = 256,
    theta: float = 1e6,
    frequencies: RotaryFrequencies.Config | None = None,
    local_theta: float = 10_000.0,
    window: int = 512,
    local_per_global: int = 5,
    eps: float = 1e-6,
) -> CausalLM.Config:
    """Gemma 2 with norms of queries and keys instead of caps, 5 local layers per global one.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks, at least `local_per_global` + 1.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        hidden_dim: width inside the feed-forward layers.
        head_dim: width of a head.
        score_dim: scores are scaled by score_dim ** -0.5 (`query_pre_attn_scalar`).
        theta: base of the rotary wavelengths of the global layers.
        frequencies: how these are stretched; `LinearFrequencies` by 8 from 4B on.
        local_theta: base of the wavelengths of the local layers.
        window: how many tokens a query of the local layers sees, itself included; 1024 from 4B on.
        local_per_global: local layers before each global one.
        eps: of all norms.
    """

    def block(mask: Mask, rotary: Rotary.Config) -> SandwichBlock.Config:
        block = _block(hidden_dim, eps)
        block.attention.set(
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            qkv=rotary.set(inner=QKNorm.default_config().set(norm=_norm(eps))),
            mask=mask,
            scale=score_dim**-0.5,
        )
        return block

    rotary = Rotary.default_config().set(theta=theta)
    if frequencies is not None:
        rotary.frequencies = frequencies
    local = block(causal_mask(window), Rotary.default_config().set(theta=local_theta))
    return decoder(
        *[local] * local_per_global,
        block(causal_mask(), rotary),
        vocab_size=vocab_size,
        dim=dim,
        num_layers=num_layers,
        norm=_norm(eps),
        tied=True,
        embedding_scale=dim**0.5,
    )


def _norm(eps: float) -> RMSNorm.Config:
    return RMSNorm.default_config().set(eps=eps, zero_centred=True)


def _block(hidden_dim: int, eps: float) -> SandwichBlock.Config:
    block = SandwichBlock.default_config().set(norm=_norm(eps))
    block.feed_forward = GatedFeedForward.default_config().set(
        hidden_dim=hidden_dim, activation="gelu_tanh"
    )
    return block
