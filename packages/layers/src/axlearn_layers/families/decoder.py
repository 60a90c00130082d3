"""What published decoders have in common: how a family's layers become a language model."""

from __future__ import annotations

from axlearn_core.kernels import Mask, causal, same_segment, window
from axlearn_core.module import Normal
from axlearn_layers import CausalLM, Norm, Repeat, SequenceLayer, Stack, scanned_pattern


def decoder(
    *layers: SequenceLayer.Config,
    vocab_size: int,
    dim: int,
    num_layers: int,
    norm: Norm.Config,
    tied: bool,
    embedding_scale: float | None = None,
) -> CausalLM.Config:
    """A language model whose `num_layers` layers repeat those given, in turn.

    They are scanned, so that compile time does not grow with depth. See `language_model`.
    """
    stack = (
        Repeat.default_config().set(layer=layers[0], num_layers=num_layers)
        if len(layers) == 1
        else scanned_pattern(layers, num_layers)
    )
    return language_model(
        stack,
        vocab_size=vocab_size,
        dim=dim,
        norm=norm,
        tied=tied,
        embedding_scale=embedding_scale,
    )


def language_model(
    stack: Stack.Config,
    *,
    vocab_size: int,
    dim: int,
    norm: Norm.Config,
    tied: bool,
    embedding_scale: float | None = None,
) -> CausalLM.Config:
    """A language model on any stack.

    Args:
        stack: all layers.
        vocab_size: number of token ids.
        dim: width of the residual stream.
        norm: of what the output head reads.
        tied: whether the output head is the embedding table.
        embedding_scale: multiplies what is looked up in the table.
    """
    model = CausalLM.default_config().set(vocab_size=vocab_size, dim=dim, norm=norm, stack=stack)
    model.embedding.scale = embedding_scale
    if tied:
        # As a head the table sums over dim, so it starts as small as any other projection.
        model.embedding.initializer = Normal.default_config().set(stddev=dim**-0.5)
        model.head = None
    return model


def causal_mask(size: int | None = None) -> Mask:
    """Attention to the past of the same document, or to the last `size` tokens of it."""
    return causal() & same_segment() if size is None else causal() & window(size) & same_segment()
