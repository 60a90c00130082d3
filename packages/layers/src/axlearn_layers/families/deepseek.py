"""DeepSeek-V3 (arXiv:2412.19437)."""

from __future__ import annotations

from axlearn_layers import (
    CausalLM,
    GatedFeedForward,
    LatentAttention,
    LayerList,
    MixtureOfExperts,
    Repeat,
    RMSNorm,
    RotaryFrequencies,
    SigmoidRouter,
    TransformerBlock,
)
from axlearn_layers.families.decoder import language_model


def deepseek_v3(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_dense_layers: int,
    num_heads: int,
    query_rank: int,
    kv_rank: int,
    hidden_dim: int,
    expert_hidden_dim: int,
    num_experts: int,
    top_k: int,
    num_groups: int,
    top_groups: int,
    content_dim: int = 128,
    rotary_dim: int = 64,
    value_dim: int = 128,
    router_scale: float = 2.5,
    theta: float = 10_000.0,
    frequencies: RotaryFrequencies.Config | None = None,
    scale: float | None = None,
    eps: float = 1e-6,
) -> CausalLM.Config:
    """Latent attention; after some dense layers, many small experts and a shared one.

    Experts are kept equally busy by a bias of the router and a small loss of each sequence
    (arXiv:2412.19437, section 4.2). Longer sequences take `YarnFrequencies` with amplitude 1, and
    `scale` multiplied by (0.1 ln(factor) + 1)^2 in its place.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers, num_dense_layers: blocks in all, and how many of them, the first, are dense.
        num_heads: query heads.
        query_rank, kv_rank: widths of the latents of queries, and of keys and values.
        hidden_dim, expert_hidden_dim: width inside a dense feed-forward layer, and an expert.
        num_experts, top_k: experts of a layer, and how many of them a token goes to.
        num_groups, top_groups: groups of experts, and how many of them a token's experts are in.
        content_dim, rotary_dim, value_dim: of a head; see `LatentAttention`.
        router_scale: multiplies the weights of the experts.
        theta: base of the rotary wavelengths.
        frequencies: how the wavelengths are stretched to longer sequences; None is not at all.
        scale: of attention scores; None is (content_dim + rotary_dim) ** -0.5.
        eps: of all norms.
    """
    norm = RMSNorm.default_config().set(eps=eps)
    attention = LatentAttention.default_config().set(
        num_heads=num_heads,
        query_rank=query_rank,
        kv_rank=kv_rank,
        content_dim=content_dim,
        rotary_dim=rotary_dim,
        value_dim=value_dim,
        theta=theta,
        scale=scale,
        norm=norm,
    )
    if frequencies is not None:
        attention.frequencies = frequencies
    dense = TransformerBlock.default_config().set(attention=attention, norm=norm)
    dense.feed_forward = GatedFeedForward.default_config().set(hidden_dim=hidden_dim)
    sparse = dense.clone(
        feed_forward=MixtureOfExperts.default_config().set(
            hidden_dim=expert_hidden_dim,
            num_experts=num_experts,
            top_k=top_k,
            router=SigmoidRouter.default_config().set(
                scale=router_scale,
                num_groups=num_groups,
                top_groups=top_groups,
                bias_rate=0.001,
                balance_loss_scale=0.0001,
            ),
            shared=GatedFeedForward.default_config().set(hidden_dim=expert_hidden_dim),
        )
    )
    stack = LayerList.default_config().set(
        layers=[
            Repeat.default_config().set(layer=dense, num_layers=num_dense_layers),
            Repeat.default_config().set(layer=sparse, num_layers=num_layers - num_dense_layers),
        ]
    )
    return language_model(stack, vocab_size=vocab_size, dim=dim, norm=norm, tied=False)
