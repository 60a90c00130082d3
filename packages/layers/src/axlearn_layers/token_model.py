"""What models of tokens have in common, whatever they compute of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED
from axlearn_core.training.model import Batch, Model
from axlearn_layers.backbone import Backbone
from axlearn_layers.embedding import Embedding
from axlearn_layers.sequence import SequenceInfo


class TokenModel(Backbone, Model):
    """A model that reads tokens: an embedding and a backbone. Abstract: subclasses add the head.

    `vocab_size` and `dim` are set here, once; all parts get theirs from here. Batches hold
    [batch, seq] arrays: input_ids, where documents are packed or padded segment_ids and positions,
    and token_types, which are 0 in batches without them; [batch] adapter_ids choose from a
    `MultiLoRA`. Activations have the dtype of the embedding that is passed in.
    """

    class Config(Backbone.Config, Model.Config):
        vocab_size: int = REQUIRED
        embedding: Embedding.Config = Embedding.default_config()
        # Of a second id of each token, such as BERT's for sentences A and B, added to the first's;
        # its vocab_size is their number.
        token_types: Embedding.Config | None = None

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.embedding: Embedding = self.add_child(
            "embedding", cfg.embedding.set(vocab_size=cfg.vocab_size, dim=cfg.dim)
        )
        self.token_types: Embedding | None = None
        if cfg.token_types is not None:
            self.token_types = self.add_child("token_types", cfg.token_types.set(dim=cfg.dim))

    def hidden(self, batch: Batch) -> jax.Array:
        """Returns the [batch, seq, dim] vectors that a head reads."""
        x = self._embed(batch["input_ids"], batch.get("token_types"))
        info = SequenceInfo(batch.get("positions"), batch.get("segment_ids"))
        with self.provide("adapter_ids", batch.get("adapter_ids")):
            return self._run(x, info)

    def _embed(self, input_ids: jax.Array, token_types: jax.Array | None = None) -> jax.Array:
        x = self.embedding.forward(input_ids)
        if self.token_types is None:
            return x
        types = jnp.zeros_like(input_ids) if token_types is None else token_types
        return x + self.token_types.forward(types)


def last_of(hidden: jax.Array, lengths: jax.Array | None) -> jax.Array:
    """Returns the vectors [batch, 1, dim] of the last token of each row, [batch, seq, dim].

    Args:
        hidden: of all tokens.
        lengths: [batch] int, how many of them count; None is all.
    """
    if lengths is None:
        return hidden[:, -1:]
    last = jnp.maximum(lengths, 1) - 1
    return jnp.take_along_axis(hidden, last[:, None, None], axis=1)


def with_auxiliary_losses(
    model: Model, total: jax.Array, weights: jax.Array, child: str | None = None
) -> jax.Array:
    """Adds what the layers of a model ask of their tokens besides, in training.

    Args:
        model: The one that is being called, after its layers were.
        total: [] float32, the sum of the losses so far.
        weights: [batch, seq], of each token's auxiliary losses.
        child: Whose layers to ask, where children have tokens of their own; None is all.
    """
    losses = model.auxiliary_losses(child)
    if not losses or not model.is_training:
        return total
    auxiliary = jnp.stack([jnp.sum(weights * loss) for loss in losses]).sum()
    name = "auxiliary_loss" if child is None else f"{child}_auxiliary_loss"
    model.add_summary(name, auxiliary / jnp.maximum(weights.sum(), 1))
    return total + auxiliary


def share_out(weights: jax.Array, real: jax.Array) -> jax.Array:
    """Shares the weight of each row, [batch, ...], evenly among its tokens that `real` names.

    Returns:
        [batch, seq], as `real`, for auxiliary losses of tokens that have no target themselves.
    """
    of_row = weights.reshape(len(weights), -1).sum(axis=1, keepdims=True)
    return of_row * real / jnp.maximum(real.sum(axis=1, keepdims=True), 1)
