"""The causal language model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED
from axlearn_core.module import FanIn, no_context
from axlearn_core.module.context import Tree
from axlearn_core.parallel import constrain
from axlearn_core.training.model import Batch, Loss, Model
from axlearn_layers.dropout import Dropout
from axlearn_layers.embedding import Embedding
from axlearn_layers.flops import flops_per_token
from axlearn_layers.loss import LinearCrossEntropy, soft_cap
from axlearn_layers.norms import Norm, RMSNorm
from axlearn_layers.positions import PositionEmbedding
from axlearn_layers.sequence import SequenceInfo, SequenceLayer
from axlearn_layers.stack import Repeat
from axlearn_layers.targets import SoftTargets, Targets


class CausalLM(Model):
    """Predicts each token from those before it: embedding, stack, norm, output head.

    `vocab_size` and `dim` are set here, once; all parts get theirs from here. Batches hold
    [batch, seq] arrays: input_ids, target_ids and target_weights, and where documents are packed
    segment_ids and positions. With target_probabilities [batch, seq, k] targets are soft, and so
    are the target_ids: [batch, seq, k]; adapter_ids [batch] choose from a `MultiLoRA`.
    Activations have the dtype of the embedding that is passed in.
    """

    class Config(Model.Config):
        vocab_size: int = REQUIRED
        dim: int = REQUIRED  # width of the residual stream
        embedding: Embedding.Config = Embedding.default_config()
        positions: PositionEmbedding.Config | None = None  # None where attention has its own
        dropout: Dropout.Config = Dropout.default_config()  # of the embeddings
        stack: SequenceLayer.Config = Repeat.default_config()
        norm: Norm.Config = RMSNorm.default_config()  # of what the head reads
        # The output head, a table like the embedding's; None is tied, and the embedding is read.
        head: Embedding.Config | None = Embedding.default_config().set(
            initializer=FanIn.default_config()
        )
        logit_cap: float | None = None  # logits become cap * tanh(logits / cap); Gemma 2 takes 30
        loss: LinearCrossEntropy.Config = LinearCrossEntropy.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        sizes = {"vocab_size": cfg.vocab_size, "dim": cfg.dim}
        self.embedding: Embedding = self.add_child("embedding", cfg.embedding.set(**sizes))
        self.positions: PositionEmbedding | None = None
        if cfg.positions is not None:
            self.positions = self.add_child("positions", cfg.positions.set(dim=cfg.dim))
        self.dropout: Dropout = self.add_child("dropout", cfg.dropout)
        self.stack: SequenceLayer = self.add_child("stack", cfg.stack.set(input_dim=cfg.dim))
        self.norm: Norm = self.add_child("norm", cfg.norm.set(input_dim=cfg.dim))
        self.head: Embedding = self.embedding
        if cfg.head is not None:
            self.head = self.add_child("head", cfg.head.set(**sizes))
        self.loss: LinearCrossEntropy = self.add_child("loss", cfg.loss)

    def forward(self, batch: Batch) -> Loss:
        hidden = self._hidden(batch)
        weights = batch["target_weights"]
        total = self.loss.forward(
            hidden, self.head.table(), _targets(batch), weights, self.config.logit_cap
        )
        return Loss(self._with_auxiliary(total, weights), weights.sum())

    def logits(self, batch: Batch) -> jax.Array:
        """Returns [batch, seq, vocab_size] float32 scores of each next token."""
        return self._logits(self._hidden(batch))

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str = "float32") -> Tree:
        """Returns the cache of empty sequences that will have up to `max_length` tokens."""
        stack = self.stack.init_cache(batch_size, max_length, dtype)
        return {"stack": stack, "length": jnp.zeros(batch_size, jnp.int32)}

    def extend(
        self,
        input_ids: jax.Array,
        cache: Tree,
        lengths: jax.Array | None = None,
        adapter_ids: jax.Array | None = None,
    ) -> tuple[jax.Array, Tree]:
        """Reads further tokens: a whole prompt at first (prefill), then one by one (decode).

        Args:
            input_ids: [batch, seq] int.
            cache: As `init_cache` or the previous call returned it.
            lengths: [batch] int, how many of the tokens count, if prompts are padded at their
                end; None is all. The logits of the others mean nothing.
            adapter_ids: [batch] int, the adapter of each sequence; see `MultiLoRA`.

        Returns:
            [batch, seq, vocab_size] float32 logits, and the new cache.
        """
        seq = input_ids.shape[1]
        start: jax.Array = cache["length"]
        positions = start[:, None] + jnp.arange(seq)
        x = self._embed(input_ids, positions)
        real = None if lengths is None else jnp.arange(seq) < lengths[:, None]
        info = SequenceInfo(positions, None if real is None else real.astype(jnp.int32))
        with self.provide("adapter_ids", adapter_ids):
            x, stack = self.stack.extend(x, cache["stack"], info)
        logits = self._logits(self.norm.forward(x))
        return logits, {"stack": stack, "length": start + (seq if lengths is None else lengths)}

    @no_context
    def flops_per_step(self, batch_shape: dict[str, tuple[int, ...]]) -> float:
        """Forward and backward: three times the forward pass; all keys count, masked ones too."""
        batch, seq = batch_shape["input_ids"]
        head = 2.0 * self.config.dim * self.config.vocab_size
        return 3 * batch * seq * (flops_per_token(self.stack, seq) + head)

    def _hidden(self, batch: Batch) -> jax.Array:
        info = SequenceInfo(batch.get("positions"), batch.get("segment_ids"))
        x = self._embed(batch["input_ids"], info.positions)
        with self.provide("adapter_ids", batch.get("adapter_ids")):
            x = self.stack.forward(x, info)
        return self.norm.forward(x)

    def _with_auxiliary(self, total: jax.Array, weights: jax.Array) -> jax.Array:
        """Adds what layers ask of their tokens besides, in training."""
        losses = self.auxiliary_losses()
        if not losses or not self.is_training:
            return total
        auxiliary = jnp.stack([jnp.sum(weights * loss) for loss in losses]).sum()
        self.add_summary("auxiliary_loss", auxiliary / jnp.maximum(weights.sum(), 1))
        return total + auxiliary

    def _logits(self, hidden: jax.Array) -> jax.Array:
        return soft_cap(self.head.attend(hidden), self.config.logit_cap)

    def _embed(self, input_ids: jax.Array, positions: jax.Array | None) -> jax.Array:
        x = self.embedding.forward(input_ids)
        if self.positions is not None:
            if positions is None:
                positions = jnp.arange(input_ids.shape[1])[None]
            x = x + self.positions.forward(positions)
        return constrain(self.dropout.forward(x), "batch", "seq", None)


def _targets(batch: Batch) -> Targets:
    ids, probabilities = batch["target_ids"], batch.get("target_probabilities")
    return ids if probabilities is None else SoftTargets(ids, probabilities)
