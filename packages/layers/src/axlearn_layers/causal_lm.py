"""The causal language model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.kernels import soft_cap
from axlearn_core.module import FanIn, capture_with_state, current_context, emit, no_context
from axlearn_core.module.context import Tree
from axlearn_core.training.model import Batch, Loss
from axlearn_layers.embedding import Embedding
from axlearn_layers.flops import flops_per_token
from axlearn_layers.loss import LinearCrossEntropy, TokenLoss
from axlearn_layers.pipeline import AroundStack, Pipeline, key_of_call
from axlearn_layers.sequence import SequenceInfo
from axlearn_layers.targets import targets_of
from axlearn_layers.token_model import TokenModel, last_of, with_auxiliary_losses


class CausalLM(TokenModel):
    """Predicts each token from those before it: embedding, stack, norm, output head.

    Batches hold target_ids and target_weights too, both [batch, seq]; see `TokenModel`. With
    target_probabilities [batch, seq, k] targets are soft, and so are the target_ids:
    [batch, seq, k].
    """

    class Config(TokenModel.Config):
        # The output head, a table like the embedding's; None is tied, and the embedding is read.
        head: Embedding.Config | None = Embedding.default_config().set(
            initializer=FanIn.default_config()
        )
        logit_cap: float | None = None  # logits become cap * tanh(logits / cap); Gemma 2 takes 30
        loss: TokenLoss.Config = LinearCrossEntropy.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.head: Embedding = self.embedding
        if cfg.head is not None:
            self.head = self.add_child("head", cfg.head.set(vocab_size=cfg.vocab_size, dim=cfg.dim))
        self.loss: TokenLoss = self.add_child("loss", cfg.loss)

    def forward(self, batch: Batch) -> Loss:
        weights = batch["target_weights"]
        if self.is_training and isinstance(self.stack, Pipeline) and self.stack.owns_loss:
            return Loss(self._loss_of(self.stack, batch), weights.sum())
        total = self.token_loss(self.hidden(batch), batch)
        return Loss(with_auxiliary_losses(self, total, weights), weights.sum())

    def token_loss(self, hidden: jax.Array, batch: Batch) -> jax.Array:
        """Returns the weighted sum of the losses of all target tokens, [] float32.

        Args:
            hidden: [batch, seq, dim], as `hidden` returns it.
            batch: Holds the targets and their weights.
        """
        return self.loss.forward(
            hidden,
            self.head.table(),
            targets_of(batch),
            batch["target_weights"],
            self.config.logit_cap,
        )

    def logits(self, batch: Batch) -> jax.Array:
        """Returns [batch, seq, vocab_size] float32 scores of each next token."""
        return self._logits(self.hidden(batch))

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
        last_only: bool = False,
    ) -> tuple[jax.Array, Tree]:
        """Reads further tokens: a whole prompt at first (prefill), then one by one (decode).

        Args:
            input_ids: [batch, seq] int.
            cache: As `init_cache` or the previous call returned it.
            lengths: [batch] int, how many of the tokens count, if prompts are padded at their
                end; None is all. The logits of the others mean nothing.
            adapter_ids: [batch] int, the adapter of each sequence; see `MultiLoRA`.
            last_only: Whether the logits after the last token that counts are all that is wanted,
                which saves a product with the head for each of the others.

        Returns:
            [batch, seq, vocab_size] float32 logits, [batch, 1, vocab_size] with `last_only`, and
            the new cache.
        """
        seq = input_ids.shape[1]
        start: jax.Array = cache["length"]
        positions = start[:, None] + jnp.arange(seq)
        real = None if lengths is None else jnp.arange(seq) < lengths[:, None]
        info = SequenceInfo(positions, None if real is None else real.astype(jnp.int32))
        with self.provide("adapter_ids", adapter_ids):
            hidden, stack = self._run_on(self._embed(input_ids), cache["stack"], info)
        length = start + (seq if lengths is None else lengths)
        if last_only:
            hidden = last_of(hidden, lengths)
        return self._logits(hidden), {"stack": stack, "length": length}

    @no_context
    def flops_per_step(self, batch_shape: dict[str, tuple[int, ...]]) -> float:
        """Forward and backward: three times the forward pass; all keys count, masked ones too."""
        batch, seq = batch_shape["input_ids"]
        head = 2.0 * self.config.dim * self.config.vocab_size
        return 3 * batch * seq * (flops_per_token(self.stack, seq) + head)

    def _loss_of(self, stack: Pipeline, batch: Batch) -> jax.Array:
        """Has the stack compute the loss, one microbatch after the other."""

        def begin(batch: Batch) -> jax.Array:
            x = self._embed(batch["input_ids"], batch.get("token_types"))
            return self._prepare(x, batch.get("positions"))

        def finish(x: jax.Array, batch: Batch) -> jax.Array:
            return self.token_loss(self._normed(x), batch)

        state = {name: x for name, x in current_context().state.items() if name != stack.name}
        functions = capture_with_state(begin), capture_with_state(finish)
        around = AroundStack(*functions, state, key_of_call())
        info = SequenceInfo(batch.get("positions"), batch.get("segment_ids"))
        weights = batch["target_weights"]
        with self.provide("adapter_ids", batch.get("adapter_ids")):
            total, auxiliary, outputs = stack.loss(around, batch, info, weights)
        emit(outputs)
        if auxiliary is not None:
            self.add_summary("auxiliary_loss", auxiliary / jnp.maximum(weights.sum(), 1))
        return total

    def _logits(self, hidden: jax.Array) -> jax.Array:
        return soft_cap(self.head.attend(hidden), self.config.logit_cap)
