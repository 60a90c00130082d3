"""The masked language model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.module import ParameterSpec, no_context, zeros
from axlearn_core.training.model import Batch, Loss
from axlearn_layers.embedding import Embedding
from axlearn_layers.flops import flops_per_token
from axlearn_layers.head_transform import HeadTransform
from axlearn_layers.loss import LinearCrossEntropy, TokenLoss
from axlearn_layers.sequence import SequenceLayer
from axlearn_layers.stack import both_directions
from axlearn_layers.token_model import TokenModel, with_auxiliary_losses


class MaskedLM(TokenModel):
    """Predicts tokens from those on both sides: logits = transform(hidden) table^T + bias.

    As in BERT (arXiv:1810.04805). Which tokens to hide is the data's business: input_ids are what
    is left, target_ids what was there, target_weights 1 where something was hidden; each is
    [batch, seq]. Attention looks both ways only if its mask is without `causal()`, as in the
    default stack.
    """

    class Config(TokenModel.Config):
        stack: SequenceLayer.Config = both_directions()
        transform: HeadTransform.Config | None = HeadTransform.default_config()
        head: Embedding.Config | None = None  # as in `CausalLM`; None is tied
        head_bias: bool = True  # one number for each token of the vocabulary
        loss: TokenLoss.Config = LinearCrossEntropy.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.transform: HeadTransform | None = None
        if cfg.transform is not None:
            self.transform = self.add_child("transform", cfg.transform.set(dim=cfg.dim))
        self.head: Embedding = self.embedding
        if cfg.head is not None:
            self.head = self.add_child("head", cfg.head.set(vocab_size=cfg.vocab_size, dim=cfg.dim))
        self.loss: TokenLoss = self.add_child("loss", cfg.loss)

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        if not cfg.head_bias:
            return {}
        shape, axes = (cfg.vocab_size,), ("vocab",)
        return {"head_bias": ParameterSpec(shape, axes, zeros, cfg.dtype, weight_decay_scale=0.0)}

    def forward(self, batch: Batch) -> Loss:
        weights = batch["target_weights"]
        hidden, table = self._with_bias(self._transformed(batch), self.head.table())
        total = self.loss.forward(hidden, table, batch["target_ids"], weights)
        return Loss(with_auxiliary_losses(self, total, weights), weights.sum())

    def logits(self, batch: Batch) -> jax.Array:
        """Returns [batch, seq, vocab_size] float32 scores of the token at each place."""
        logits = self.head.attend(self._transformed(batch))
        return logits + self.param("head_bias") if self.config.head_bias else logits

    @no_context
    def flops_per_step(self, batch_shape: dict[str, tuple[int, ...]]) -> float:
        """Forward and backward: three times the forward pass; places without a target count."""
        batch, seq = batch_shape["input_ids"]
        per_token = (
            flops_per_token(self.stack, seq) + 2.0 * self.config.dim * self.config.vocab_size
        )
        if self.transform is not None:
            per_token += flops_per_token(self.transform, seq)
        return 3 * batch * seq * per_token

    def _transformed(self, batch: Batch) -> jax.Array:
        hidden = self.hidden(batch)
        return hidden if self.transform is None else self.transform.forward(hidden)

    def _with_bias(self, hidden: jax.Array, table: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Makes the bias one more column of the table, and its factor 1 one more of the vectors."""
        if not self.config.head_bias:
            return hidden, table
        bias = self.param("head_bias").astype(table.dtype)
        one = jnp.ones((*hidden.shape[:-1], 1), hidden.dtype)
        return (
            jnp.concatenate([hidden, one], axis=-1),
            jnp.concatenate([table, bias[:, None]], axis=-1),
        )
