"""Attention."""

from __future__ import annotations

from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.kernels import Mask, attention, causal, same_segment
from axlearn_core.module import ParameterSpec, no_context, zeros
from axlearn_core.module.context import Tree
from axlearn_layers.attention_bias import AttentionBias
from axlearn_layers.cache import ContiguousCache, KVCache
from axlearn_layers.flops import matmul_flops_per_token
from axlearn_layers.linear import Linear, Projection
from axlearn_layers.qkv import QKV, FusedQKV, QKVProjection
from axlearn_layers.sequence import SequenceInfo, SequenceLayer


class Attention(SequenceLayer):
    """y = concat_h(softmax(mask(scale * q_h k_h^T)) v_h) W_o (arXiv:1706.03762).

    Multi-head, grouped-query (arXiv:2305.13245) or multi-query, by `num_kv_heads`. It knows
    nothing of positions but their order: encodings wrap the projection, and the mask stays a
    symbol until a kernel consumes it.
    """

    class Config(SequenceLayer.Config):
        num_heads: int = REQUIRED
        num_kv_heads: int | None = None  # None is num_heads
        head_dim: int | None = None  # None is input_dim / num_heads
        qkv: QKVProjection.Config = FusedQKV.default_config()
        mask: Mask = causal() & same_segment()
        scale: float | None = None  # of the scores; None is head_dim ** -0.5
        logit_cap: float | None = None  # scores become cap * tanh(scores / cap); Gemma 2 takes 50
        bias: AttentionBias.Config | None = None  # of the scores, by relative position
        sinks: bool = False  # a learned score per head for attending to nothing (gpt-oss)
        gate: Projection.Config | None = None  # context * sigmoid(gate(x)) (arXiv:2505.06708)
        output: Projection.Config = Linear.default_config()
        cache: KVCache.Config = ContiguousCache.default_config()
        kernel: str | None = None  # forces an implementation; None takes the best that is there

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        heads = cfg.num_heads
        kv_heads = heads if cfg.num_kv_heads is None else cfg.num_kv_heads
        if heads % kv_heads:
            raise ConfigError(f"num_kv_heads (={kv_heads}) must divide num_heads (={heads})")
        if cfg.head_dim is None and cfg.input_dim % heads:
            raise ConfigError(
                f"num_heads (={heads}) must divide input_dim (={cfg.input_dim}); or set head_dim"
            )
        self.head_dim: int = cfg.input_dim // heads if cfg.head_dim is None else cfg.head_dim
        self.qkv: QKVProjection = self.add_child(
            "qkv",
            cfg.qkv.set(
                input_dim=cfg.input_dim,
                num_heads=heads,
                num_kv_heads=kv_heads,
                head_dim=self.head_dim,
            ),
        )
        self.output: Projection = self.add_child(
            "output",
            cfg.output.set(
                input_dim=(heads, self.head_dim),
                output_dim=cfg.input_dim,
                input_axes=("heads", "head_dim"),
                output_axes="embed",
            ),
        )
        self.gate: Projection | None = None
        if cfg.gate is not None:
            self.gate = self.add_child(
                "gate",
                cfg.gate.set(
                    input_dim=cfg.input_dim,
                    output_dim=(heads, self.head_dim),
                    input_axes="embed",
                    output_axes=("heads", "head_dim"),
                ),
            )
        self.bias: AttentionBias | None = None
        if cfg.bias is not None:
            self.bias = self.add_child("bias", cfg.bias.set(num_heads=heads))
        self.cache: KVCache = self.add_child(
            "cache", cfg.cache.set(num_kv_heads=kv_heads, head_dim=self.head_dim)
        )

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        if not cfg.sinks:
            return {}
        spec = ParameterSpec((cfg.num_heads,), ("heads",), zeros, cfg.dtype, weight_decay_scale=0.0)
        return {"sinks": spec}

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        qkv = self._project(x, info)
        segments, mask = info.segment_ids, self.config.mask
        context = attention(
            qkv.query,
            qkv.key,
            qkv.value,
            mask=mask if segments is not None else mask.within_segment,
            **self._score_options(),
            query_segments=segments,
            key_segments=segments,
            implementation=self.config.kernel,
        )
        return self._output(context, x)

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return self.cache.init(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        assert info.positions is not None, "the model gives positions when it extends"
        qkv = self._project(x, info)
        cache, seen = self.cache.update(cache, qkv.key, qkv.value, info.positions)
        context = attention(
            qkv.query,
            seen.key.astype(x.dtype),
            seen.value.astype(x.dtype),
            mask=self.config.mask.within_segment,
            **self._score_options(),
            query_positions=info.positions,
            key_positions=seen.positions,  # no kernel is forced: decoding is another problem
        )
        return self._output(context, x), cache

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Adds scores and their product with the values; all keys count, whatever the mask."""
        scores = 4.0 * seq_length * self.config.num_heads * self.head_dim
        return matmul_flops_per_token(self, seq_length) + scores

    def _project(self, x: jax.Array, info: SequenceInfo) -> QKV:
        qkv = self.qkv.forward(x, info.positions)
        return QKV(
            query=checkpoint_name(qkv.query, "attention_query"),
            key=checkpoint_name(qkv.key, "attention_key"),
            value=checkpoint_name(qkv.value, "attention_value"),
        )

    def _score_options(self) -> dict[str, Any]:
        cfg = self.config
        bias, bias_parameters = (None, None) if self.bias is None else self.bias.forward()
        return {
            "scale": cfg.scale,
            "logit_cap": cfg.logit_cap,
            "bias": bias,
            "bias_parameters": bias_parameters,
            "sinks": self.param("sinks") if cfg.sinks else None,
        }

    def _output(self, context: jax.Array, x: jax.Array) -> jax.Array:
        context = checkpoint_name(context, "attention_context")
        if self.gate is not None:
            context = context * jax.nn.sigmoid(self.gate.forward(x))
        return self.output.forward(context)
