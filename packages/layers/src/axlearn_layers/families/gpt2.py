"""GPT-2 (Radford et al. 2019, "Language models are unsupervised multitask learners")."""

from __future__ import annotations

from axlearn_layers import (
    CausalLM,
    DenseFeedForward,
    FusedQKV,
    LayerNorm,
    LearnedPositions,
    Linear,
    TransformerBlock,
)
from axlearn_layers.families.decoder import decoder


def gpt2(
    *,
    vocab_size: int = 50_257,
    dim: int,
    num_layers: int,
    num_heads: int,
    max_length: int = 1024,
    eps: float = 1e-5,
) -> CausalLM.Config:
    """Learned positions, layer norms and biases everywhere; the head is the embedding table.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream; 4 times that inside the feed-forward layers.
        num_layers: blocks.
        num_heads: heads of dim / num_heads each.
        max_length: how many positions there are.
        eps: of the norms.
    """
    norm = LayerNorm.default_config().set(eps=eps)
    biased = Linear.default_config().set(bias=True)
    block = TransformerBlock.default_config().set(norm=norm)
    block.attention.set(
        num_heads=num_heads, qkv=FusedQKV.default_config().set(projection=biased), output=biased
    )
    block.feed_forward = DenseFeedForward.default_config().set(
        hidden_dim=4 * dim, activation="gelu_tanh"
    )
    model = decoder(
        block, vocab_size=vocab_size, dim=dim, num_layers=num_layers, norm=norm, tied=True
    )
    return model.set(positions=LearnedPositions.default_config().set(max_length=max_length))
