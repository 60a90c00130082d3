"""The encoder-decoder: a sequence predicted from another one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import FanIn, no_context
from axlearn_core.module.context import Tree
from axlearn_core.training.model import Batch, Loss, Model
from axlearn_layers.attention import Attention
from axlearn_layers.backbone import TokenStack
from axlearn_layers.block import TransformerBlock
from axlearn_layers.cross_attention import CrossAttention
from axlearn_layers.embedding import Embedding
from axlearn_layers.flops import flops_per_token
from axlearn_layers.loss import LinearCrossEntropy, TokenLoss
from axlearn_layers.residual import Residual
from axlearn_layers.sequence import Memory, SequenceInfo
from axlearn_layers.stack import LayerList, Repeat, both_directions
from axlearn_layers.token_model import last_of, share_out, with_auxiliary_losses


def _decoder() -> TokenStack.Config:
    reads_itself = Residual.default_config().set(inner=Attention.default_config())
    reads_memory = TransformerBlock.default_config().set(attention=CrossAttention.default_config())
    layer = LayerList.default_config().set(layers=[reads_itself, reads_memory])
    return TokenStack.default_config().set(stack=Repeat.default_config().set(layer=layer))


class EncoderDecoder(Model):
    """Predicts each token from those before it and all of another sequence (T5, arXiv:1910.10683).

    memory = encoder(embed(encoder_ids)), logits = scale * decoder(embed(ids), memory) table^T.
    A layer of the default decoder is a residual of attention, then a block whose attention reads
    the encoder's output: a composition that can be changed as any other.

    Batches hold encoder_ids, [batch, memory], and of the decoder input_ids, target_ids and
    target_weights, [batch, seq]. Padded or packed ones have encoder_segment_ids and segment_ids
    (0 is padding, equal numbers belong together), packed ones encoder_positions and positions too.
    [batch] adapter_ids choose from a `MultiLoRA`.
    """

    class Config(Model.Config):
        vocab_size: int = REQUIRED
        dim: int = REQUIRED  # width of both residual streams
        embedding: Embedding.Config = Embedding.default_config()  # of both sides
        encoder: TokenStack.Config = TokenStack.default_config().set(stack=both_directions())
        decoder: TokenStack.Config = _decoder()
        # The output head, a table like the embedding's; None is tied, and the embedding is read.
        head: Embedding.Config | None = Embedding.default_config().set(
            initializer=FanIn.default_config()
        )
        scale: float | None = None  # of what the head reads; T5 takes dim ** -0.5 where tied
        start_id: int = 0  # with which the decoder's side begins; T5 takes that of padding
        loss: TokenLoss.Config = LinearCrossEntropy.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if not 0 <= cfg.start_id < cfg.vocab_size:
            raise ConfigError(
                f"start_id (={cfg.start_id}) must be an id, from 0 to {cfg.vocab_size - 1}"
            )
        sizes = {"vocab_size": cfg.vocab_size, "dim": cfg.dim}
        self.embedding: Embedding = self.add_child("embedding", cfg.embedding.set(**sizes))
        self.encoder: TokenStack = self.add_child("encoder", cfg.encoder.set(dim=cfg.dim))
        self.decoder: TokenStack = self.add_child("decoder", cfg.decoder.set(dim=cfg.dim))
        self.head: Embedding = self.embedding
        if cfg.head is not None:
            self.head = self.add_child("head", cfg.head.set(**sizes))
        self.loss: TokenLoss = self.add_child("loss", cfg.loss)

    @property
    def start_id(self) -> int:
        """The id that stands before all others of the decoder's side."""
        return self.config.start_id

    @property
    def max_length(self) -> int | None:
        """The longest sequence of either side, in tokens; None is any."""
        sides = self.encoder.max_length, self.decoder.max_length
        return min((side for side in sides if side is not None), default=None)

    def forward(self, batch: Batch) -> Loss:
        weights = batch["target_weights"]
        hidden, table = self._hidden(batch), self.head.table()
        total = self.loss.forward(hidden, table, batch["target_ids"], weights)
        total = with_auxiliary_losses(self, total, weights, "decoder")
        segments = batch.get("encoder_segment_ids")
        real = jnp.ones_like(batch["encoder_ids"]) if segments is None else segments != 0
        total = with_auxiliary_losses(self, total, share_out(weights, real), "encoder")
        return Loss(total, weights.sum())

    def logits(self, batch: Batch) -> jax.Array:
        """Returns [batch, seq, vocab_size] float32 scores of each next token of the decoder."""
        return self.head.attend(self._hidden(batch))

    def encode(self, batch: Batch) -> Memory:
        """Returns what the decoder reads of the encoder's side of a batch."""
        segments = batch.get("encoder_segment_ids")
        info = SequenceInfo(batch.get("encoder_positions"), segments)
        with self.provide("adapter_ids", batch.get("adapter_ids")):
            x = self.encoder.forward(self.embedding.forward(batch["encoder_ids"]), info)
        return Memory(x, segments)

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str = "float32") -> Tree:
        """Returns the decoder's cache of empty sequences of up to `max_length` tokens."""
        decoder = self.decoder.init_cache(batch_size, max_length, dtype)
        return {"decoder": decoder, "length": jnp.zeros(batch_size, jnp.int32)}

    def prefill(
        self,
        prompt_ids: jax.Array,
        cache: Tree,
        lengths: jax.Array | None = None,
        adapter_ids: jax.Array | None = None,
    ) -> tuple[jax.Array, Tree]:
        """Reads prompts by the encoder, and begins the decoder's side of each.

        Args:
            prompt_ids: [batch, memory] int.
            cache: As `init_cache` returned it.
            lengths: [batch] int, how many ids of each prompt count; None is all.
            adapter_ids: [batch] int, see `MultiLoRA`.

        Returns:
            [batch, 1, vocab_size] float32 logits of the first token, and the new cache.
        """
        batch = {"encoder_ids": prompt_ids}
        if lengths is not None:
            real = jnp.arange(prompt_ids.shape[1]) < lengths[:, None]
            batch["encoder_segment_ids"] = real.astype(jnp.int32)
        if adapter_ids is not None:
            batch["adapter_ids"] = adapter_ids
        start = jnp.full((prompt_ids.shape[0], 1), self.start_id)
        memory = self.encode(batch)
        return self.extend(start, cache, adapter_ids=adapter_ids, memory=memory)

    def extend(
        self,
        input_ids: jax.Array,
        cache: Tree,
        lengths: jax.Array | None = None,
        adapter_ids: jax.Array | None = None,
        last_only: bool = False,
        memory: Memory | None = None,
    ) -> tuple[jax.Array, Tree]:
        """Reads further tokens of the decoder, as `CausalLM.extend` does.

        Args:
            input_ids, cache, lengths, adapter_ids, last_only: As there.
            memory: As `encode` returned it, for the first call. Later ones have it in the cache.

        Returns:
            [batch, seq, vocab_size] float32 logits, [batch, 1, vocab_size] with `last_only`, and
            the new cache.
        """
        seq = input_ids.shape[1]
        start: jax.Array = cache["length"]
        positions = start[:, None] + jnp.arange(seq)
        real = None if lengths is None else jnp.arange(seq) < lengths[:, None]
        segments = None if real is None else real.astype(jnp.int32)
        info = SequenceInfo(positions, segments, memory)
        x = self.embedding.forward(input_ids)
        with self.provide("adapter_ids", adapter_ids):
            x, decoder = self.decoder.extend(x, cache["decoder"], info)
        length = start + (seq if lengths is None else lengths)
        if last_only:
            x = last_of(x, lengths)
        return self.head.attend(self._scaled(x)), {"decoder": decoder, "length": length}

    @no_context
    def flops_per_step(self, batch_shape: dict[str, tuple[int, ...]]) -> float:
        """Forward and backward: three times the forward pass.

        Cross attention counts as if both sequences had the decoder's length.
        """
        batch, seq = batch_shape["input_ids"]
        memory = batch_shape["encoder_ids"][1]
        head = 2.0 * self.config.dim * self.config.vocab_size
        encoder = memory * flops_per_token(self.encoder, memory)
        decoder = seq * (flops_per_token(self.decoder, seq) + head)
        return 3 * batch * (encoder + decoder)

    def _hidden(self, batch: Batch) -> jax.Array:
        memory = self.encode(batch)
        info = SequenceInfo(batch.get("positions"), batch.get("segment_ids"), memory)
        with self.provide("adapter_ids", batch.get("adapter_ids")):
            x = self.decoder.forward(self.embedding.forward(batch["input_ids"]), info)
        return self._scaled(x)

    def _scaled(self, hidden: jax.Array) -> jax.Array:
        return hidden if self.config.scale is None else hidden * self.config.scale
