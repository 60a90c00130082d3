"""The foundation language models of arXiv:2407.21075 and arXiv:2507.13575."""

from __future__ import annotations

from axlearn_layers import (
    CausalLM,
    GatedFeedForward,
    LayerList,
    QKNorm,
    QueryOnly,
    Repeat,
    RMSNorm,
    Rotary,
    SharedKeys,
    Stack,
    TransformerBlock,
)
from axlearn_layers.families.decoder import language_model


def afm(
    *,
    vocab_size: int,
    dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    hidden_dim: int,
    num_sharing_layers: int = 0,
    theta: float = 500_000.0,
    eps: float = 1e-6,
) -> CausalLM.Config:
    """RMS norms, also of queries and keys, rotary positions, SwiGLU, tied embeddings.

    In the on-device model of 2025 the last 3/8 of the layers have no keys and values: they attend
    to those of the layer before them, so that its cache is smaller by as much, and reading a prompt
    may skip them (arXiv:2507.13575, section 2.1). The papers do not publish every detail, such as
    eps and how the table starts; what they leave open is as in other models here.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks in all.
        num_heads, num_kv_heads: query heads, and the key and value heads that they share.
        head_dim: width of a head.
        hidden_dim: width inside the feed-forward layers.
        num_sharing_layers: how many of the blocks, the last, use the keys of the one before them.
        theta: base of the rotary wavelengths.
        eps: of all norms.
    """
    norm = RMSNorm.default_config().set(eps=eps)
    block = TransformerBlock.default_config().set(norm=norm)
    normed = QKNorm.default_config().set(norm=norm)
    block.attention.set(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        qkv=Rotary.default_config().set(theta=theta, inner=normed),
    )
    block.feed_forward = GatedFeedForward.default_config().set(hidden_dim=hidden_dim)
    own = num_layers - num_sharing_layers
    stack: Stack.Config = Repeat.default_config().set(layer=block, num_layers=own)
    if num_sharing_layers:
        stack = _sharing(block, own, num_sharing_layers)
    return language_model(
        stack, vocab_size=vocab_size, dim=dim, norm=norm, tied=True, embedding_scale=dim**0.5
    )


def _sharing(block: TransformerBlock.Config, own: int, sharing: int) -> LayerList.Config:
    """Layers with keys of their own, and others that share those of the last of them."""
    last, reader = block.clone(), block.clone()
    last.attention.offers_keys = True
    reader.attention.qkv.inner.inner = QueryOnly.default_config()
    before = Repeat.default_config().set(layer=block, num_layers=own - 1)
    rest = Repeat.default_config().set(layer=reader, num_layers=sharing)
    shared = SharedKeys.default_config().set(first=last, rest=rest)
    return LayerList.default_config().set(layers=[before, shared])
