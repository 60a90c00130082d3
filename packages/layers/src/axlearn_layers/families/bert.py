"""BERT (arXiv:1810.04805): a masked language model, and a classifier of sequences."""

from __future__ import annotations

from typing import TypeVar

from axlearn_core.kernels import same_segment
from axlearn_layers import (
    Attention,
    ClassificationHead,
    DenseFeedForward,
    Embedding,
    FirstToken,
    FusedQKV,
    HeadTransform,
    LayerNorm,
    LearnedPositions,
    Linear,
    MaskedLM,
    PostNormBlock,
    Repeat,
    SequenceClassifier,
    TokenModel,
)

Model = TypeVar("Model", bound=TokenModel.Config)


def bert(
    *,
    vocab_size: int = 30_522,
    dim: int,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    max_length: int = 512,
    num_token_types: int = 2,
    activation: str = "gelu",
    eps: float = 1e-12,
) -> MaskedLM.Config:
    """Predicts hidden tokens. Attention on both sides, norms after the sums, a tied head.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream.
        num_layers: blocks.
        num_heads: heads of dim / num_heads each.
        hidden_dim: width inside the feed-forward layers.
        max_length: how many positions there are.
        num_token_types: kinds of tokens, such as those of the first and the second sentence.
        activation: of the feed-forward layers, and before the head.
        eps: of the norms.
    """
    model = MaskedLM.default_config().set(vocab_size=vocab_size, dim=dim)
    norm = LayerNorm.default_config().set(eps=eps)
    model.transform = HeadTransform.default_config().set(activation=activation, norm=norm)
    return _encode(
        model, num_layers, num_heads, hidden_dim, max_length, num_token_types, activation, norm
    )


def bert_classifier(
    *,
    num_classes: int,
    vocab_size: int = 30_522,
    dim: int,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    max_length: int = 512,
    num_token_types: int = 2,
    activation: str = "gelu",
    eps: float = 1e-12,
) -> SequenceClassifier.Config:
    """Scores sequences by the vector of their first token; see `bert` for the arguments."""
    model = SequenceClassifier.default_config().set(
        vocab_size=vocab_size, dim=dim, num_classes=num_classes
    )
    model.pooling = FirstToken.default_config()
    model.classifier = ClassificationHead.default_config().set(
        transform=HeadTransform.default_config().set(activation="tanh", norm=None)
    )
    norm = LayerNorm.default_config().set(eps=eps)
    return _encode(
        model, num_layers, num_heads, hidden_dim, max_length, num_token_types, activation, norm
    )


def _encode(
    model: Model,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    max_length: int,
    num_token_types: int,
    activation: str,
    norm: LayerNorm.Config,
) -> Model:
    """Gives a model BERT's embeddings and blocks."""
    linear = Linear.default_config().set(bias=True)
    block = PostNormBlock.default_config().set(norm=norm)
    block.attention = Attention.default_config().set(
        num_heads=num_heads,
        mask=same_segment(),
        qkv=FusedQKV.default_config().set(projection=linear),
        output=linear,
    )
    block.feed_forward = DenseFeedForward.default_config().set(
        hidden_dim=hidden_dim, activation=activation
    )
    return model.set(
        positions=LearnedPositions.default_config().set(max_length=max_length),
        token_types=Embedding.default_config().set(vocab_size=num_token_types),
        embedding_norm=norm,
        stack=Repeat.default_config().set(layer=block, num_layers=num_layers),
        norm=None,
    )
