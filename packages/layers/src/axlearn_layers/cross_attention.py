"""Attention to another sequence."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_core.kernels import Mask, attention, same_segment
from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_layers.attention_layer import AttentionLayer, head_sizes, name_for_remat
from axlearn_layers.flops import matmul_flops_per_token
from axlearn_layers.linear import Linear, Projection
from axlearn_layers.sequence import Memory, SequenceInfo


class CrossAttention(AttentionLayer):
    """Attention whose keys and values come from `info.memory`, such as an encoder's output.

    q = x W_q; k, v = memory W_kv (arXiv:1706.03762, section 3.2.3). Positions play no role. With
    `same_segment` (the default mask), row i of packed targets reads the memory of the same number;
    a memory without packing has segment 1, and 0 where it is padding.

    Decoding projects the memory once: the first `extend` is given it and caches keys and values,
    further calls leave it out. A cache is empty before, so its structure changes once.
    """

    class Config(AttentionLayer.Config):
        mask: Mask = same_segment()
        num_kv_heads: int | None = None  # None is num_heads
        head_dim: int | None = None  # None is input_dim / num_heads
        memory_dim: int | None = None  # width of the memory; None is input_dim
        query: Projection.Config = Linear.default_config()
        key_value: Projection.Config = (
            Linear.default_config()
        )  # [memory_dim, 2, kv_heads, head_dim]

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        kv_heads, self.head_dim = head_sizes(
            cfg.input_dim, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim
        )
        self.query: Projection = self.add_child(
            "query",
            cfg.query.set(
                input_dim=cfg.input_dim,
                output_dim=(cfg.num_heads, self.head_dim),
                input_axes="embed",
                output_axes=("heads", "head_dim"),
            ),
        )
        self.key_value: Projection = self.add_child(
            "key_value",
            cfg.key_value.set(
                input_dim=cfg.input_dim if cfg.memory_dim is None else cfg.memory_dim,
                output_dim=(2, kv_heads, self.head_dim),
                input_axes="embed",
                output_axes=(None, "kv_heads", "head_dim"),
            ),
        )
        self.output = self.add_output(self.head_dim)

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        if info.memory is None:
            raise ConfigError(
                f"{self.path} has nothing to read: its model gives no memory. Cross attention "
                "belongs into the decoder of an EncoderDecoder"
            )
        return self._attend(x, self._read(info.memory), info.segment_ids, self.config.kernel)

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """Empty until a memory is read."""
        return {}

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        if info.memory is not None:
            cache = self._read(info.memory)
        elif not cache:
            raise ConfigError(f"{self.path} has read no memory yet; give it to the first `extend`")
        return self._attend(x, cache, None, None), cache

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """As if the memory were as long as the sequence itself."""
        scores = self.scores_flops(seq_length, self.head_dim, self.head_dim)
        return matmul_flops_per_token(self, seq_length) + scores

    def _read(self, memory: Memory) -> Tree:
        key_value = self.key_value.forward(memory.vectors)
        segments = memory.segment_ids
        if segments is None:
            segments = jnp.ones(memory.vectors.shape[:2], jnp.int32)
        return {
            "key": name_for_remat(key_value[:, :, 0], "key"),
            "value": name_for_remat(key_value[:, :, 1], "value"),
            "segments": segments,
        }

    def _attend(
        self, x: jax.Array, memory: Tree, segments: jax.Array | None, kernel: str | None
    ) -> jax.Array:
        cfg = self.config
        context = attention(
            name_for_remat(self.query.forward(x), "query"),
            memory["key"],
            memory["value"],
            mask=cfg.mask,
            scale=cfg.scale,
            logit_cap=cfg.logit_cap,
            query_segments=jnp.ones(x.shape[:2], jnp.int32) if segments is None else segments,
            key_segments=memory["segments"],
            implementation=kernel,
        )
        return self.output.forward(name_for_remat(context, "context"))
