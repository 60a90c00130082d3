"""Llama (arXiv:2302.13971) to Llama 3 (arXiv:2407.21783), and Mistral 7B (arXiv:2310.06825)."""

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


def llama(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    hidden_dim: int,
    head_dim: int | None = None,
    theta: float = 10_000.0,
    frequencies: RotaryFrequencies.Config | None = None,
    window: int | None = None,
    eps: float = 1e-6,
    tied: bool = False,
    embedding_scale: float | None = None,
) -> CausalLM.Config:
    """A decoder as in arXiv:2302.13971: RMS norm, rotary positions, SwiGLU, grouped queries.

    Llama 3 has theta 500,000 and eps 1e-5, and from 3.1 on `Llama3Frequencies`. Mistral 7B is the
    same with a `window`.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks, scanned, so that compile time does not grow with them.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        hidden_dim: width inside the feed-forward layers.
        head_dim: width of a head; None is dim / num_heads.
        theta: base of the rotary wavelengths.
        frequencies: how the wavelengths are stretched to longer sequences; None is not at all.
        window: how many tokens a query sees, itself included; None is all before it.
        eps: of the norms.
        tied: whether the output head is the embedding table.
        embedding_scale: multiplies what is looked up in the table. Published Llamas have none. A
            tied table starts small, and sqrt(dim) gives the blocks a variance of 1 (as in Gemma,
            arXiv:2403.08295).
    """
    norm = RMSNorm.default_config().set(eps=eps)
    rotary = Rotary.default_config().set(theta=theta)
    if frequencies is not None:
        rotary.frequencies = frequencies
    block = TransformerBlock.default_config().set(norm=norm)
    block.attention.set(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        qkv=rotary,
        mask=causal_mask(window),
    )
    block.feed_forward = GatedFeedForward.default_config().set(hidden_dim=hidden_dim)
    return decoder(
        block,
        vocab_size=vocab_size,
        dim=dim,
        num_layers=num_layers,
        norm=norm,
        tied=tied,
        embedding_scale=embedding_scale,
    )
