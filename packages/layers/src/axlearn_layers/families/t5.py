"""T5 (arXiv:1910.10683): a sequence from another one."""

from __future__ import annotations

from axlearn_core.kernels import causal, same_segment
from axlearn_layers import (
    Attention,
    CrossAttention,
    DenseFeedForward,
    EncoderDecoder,
    FeedForward,
    GatedFeedForward,
    LayerList,
    Linear,
    Repeat,
    Residual,
    RMSNorm,
    SharedBias,
    T5Bias,
    TokenStack,
    TransformerBlock,
)


def t5(
    *,
    vocab_size: int = 32_128,
    dim: int,
    num_layers: int,
    num_heads: int,
    head_dim: int = 64,
    hidden_dim: int,
    num_decoder_layers: int | None = None,
    num_buckets: int = 32,
    max_distance: int = 128,
    gated: bool = True,
    tied: bool = False,
    eps: float = 1e-6,
    start_id: int = 0,
) -> EncoderDecoder.Config:
    """Encoder and decoder with RMS norms, unscaled scores and a relative bias for each stack.

    Version 1.1 has gated feed-forward layers and a head of its own; version 1.0 neither, and what
    its head reads is scaled by dim ** -0.5.

    Args:
        vocab_size: number of token ids.
        dim: width of both residual streams.
        num_layers, num_decoder_layers: of the encoder and the decoder; None is as many.
        num_heads, head_dim: of all attention; they need not make up dim.
        hidden_dim: width inside the feed-forward layers.
        num_buckets, max_distance: of the relative bias; see `T5Bias`.
        gated: whether feed-forward layers are GeGLU (arXiv:2002.05202) instead of ReLU.
        tied: whether the output head is the embedding table.
        eps: of the norms.
        start_id: with which the decoder's side begins.
    """
    rms = RMSNorm.default_config().set(eps=eps)
    feed_forward: FeedForward.Config = DenseFeedForward.default_config().set(
        hidden_dim=hidden_dim,
        activation="relu",
        up=Linear.default_config(),
        down=Linear.default_config(),
    )
    if gated:
        feed_forward = GatedFeedForward.default_config().set(
            hidden_dim=hidden_dim, activation="gelu_tanh"
        )
    heads = {"num_heads": num_heads, "head_dim": head_dim, "scale": 1.0}
    attention = Attention.default_config().set(**heads)
    reads_both_sides = TransformerBlock.default_config().set(
        attention=attention.clone(mask=same_segment()), feed_forward=feed_forward, norm=rms
    )
    reads_itself = Residual.default_config().set(
        inner=attention.clone(mask=causal() & same_segment()), norm=rms
    )
    reads_memory = TransformerBlock.default_config().set(
        attention=CrossAttention.default_config().set(**heads), feed_forward=feed_forward, norm=rms
    )
    decoder_layer = LayerList.default_config().set(layers=[reads_itself, reads_memory])
    bias = T5Bias.default_config().set(
        num_heads=num_heads, num_buckets=num_buckets, max_distance=max_distance
    )

    def stack(layer: Repeat.Config, *, both_directions: bool) -> TokenStack.Config:
        shared = bias.clone(both_directions=both_directions)
        biased = SharedBias.default_config().set(inner=layer, bias=shared)
        return TokenStack.default_config().set(stack=biased, norm=rms)

    depth = num_layers if num_decoder_layers is None else num_decoder_layers
    encoder = Repeat.default_config().set(layer=reads_both_sides, num_layers=num_layers)
    decoder = Repeat.default_config().set(layer=decoder_layer, num_layers=depth)
    model = EncoderDecoder.default_config().set(
        vocab_size=vocab_size,
        dim=dim,
        encoder=stack(encoder, both_directions=True),
        decoder=stack(decoder, both_directions=False),
        start_id=start_id,
    )
    return model.set(head=None, scale=dim**-0.5) if tied else model
