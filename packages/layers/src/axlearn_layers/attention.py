"""Attention."""

from __future__ import annotations

from typing import Any

import jax

from axlearn_core.config import ConfigError
from axlearn_core.kernels import attention
from axlearn_core.module import ParameterSpec, no_context, zeros
from axlearn_core.module.context import Tree
from axlearn_core.parallel import constrain
from axlearn_layers.attention_bias import AttentionBias
from axlearn_layers.attention_layer import AttentionLayer, head_sizes, name_for_remat
from axlearn_layers.cache import ContiguousCache, KeysAndValues, KVCache, places_to_store
from axlearn_layers.flops import matmul_flops_per_token
from axlearn_layers.linear import Projection
from axlearn_layers.qkv import FusedQKV, QKVProjection
from axlearn_layers.sequence import SequenceInfo


class Attention(AttentionLayer):
    """y = concat_h(softmax(mask(scale * q_h k_h^T)) v_h) W_o (arXiv:1706.03762).

    Multi-head, grouped-query (arXiv:2305.13245) or multi-query, by `num_kv_heads`. It knows
    nothing of positions but their order: encodings wrap the projection, and the mask stays a
    symbol until a kernel consumes it. With the mask `same_segment` alone it looks both ways.
    """

    class Config(AttentionLayer.Config):
        num_kv_heads: int | None = None  # None is num_heads
        head_dim: int | None = None  # None is input_dim / num_heads
        qkv: QKVProjection.Config = FusedQKV.default_config()
        bias: AttentionBias.Config | None = None  # of the scores; None takes the stack's, if any
        sinks: bool = False  # a learned score per head for attending to nothing (gpt-oss)
        gate: Projection.Config | None = None  # context * sigmoid(gate(x)) (arXiv:2505.06708)
        cache: KVCache.Config = ContiguousCache.default_config()
        offers_keys: bool = False  # to layers after it that have none, see `SharedKeys`

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        heads = cfg.num_heads
        kv_heads, self.head_dim = head_sizes(cfg.input_dim, heads, cfg.num_kv_heads, cfg.head_dim)
        self.qkv: QKVProjection = self.add_child(
            "qkv",
            cfg.qkv.set(
                input_dim=cfg.input_dim,
                num_heads=heads,
                num_kv_heads=kv_heads,
                head_dim=self.head_dim,
            ),
        )
        self.output = self.add_output(self.head_dim)
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
        self.cache: KVCache | None = None
        if self.qkv.makes_keys:
            # Nobody knows how far those look to whom keys are offered.
            window = None if cfg.offers_keys else cfg.mask.reach
            self.cache = self.add_child(
                "cache",
                cfg.cache.set(num_kv_heads=kv_heads, head_dim=self.head_dim, window=window),
            )

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        if not cfg.sinks:
            return {}
        spec = ParameterSpec((cfg.num_heads,), ("heads",), zeros, cfg.dtype, weight_decay_scale=0.0)
        return {"sinks": spec}

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        query, own = self._project(x, info)
        keys = self._keys(own, info)
        context = attention(
            query,
            keys.key,
            keys.value,
            **self.within_rows(info),
            **self._score_options(info),
            implementation=self.config.kernel,
        )
        return self._output(context, x)

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return {} if self.cache is None else self.cache.init(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        assert info.positions is not None, "the model gives positions when it extends"
        query, own = self._project(x, info)
        if self.cache is not None:
            assert own is not None
            places = places_to_store(info.positions, info.segment_ids)
            cache, own = self.cache.update(cache, own.key, own.value, places)
        keys = self._keys(own, info)
        context = attention(
            query,
            keys.key.astype(x.dtype),
            keys.value.astype(x.dtype),
            mask=self.config.mask.within_segment,
            **self._score_options(info),
            query_positions=info.positions,
            key_positions=keys.positions,  # no kernel is forced: decoding is another problem
        )
        return self._output(context, x), cache

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Adds the scores and their product with the values."""
        scores = self.scores_flops(seq_length, self.head_dim, self.head_dim)
        return matmul_flops_per_token(self, seq_length) + scores

    def _project(self, x: jax.Array, info: SequenceInfo) -> tuple[jax.Array, KeysAndValues | None]:
        query, key, value = self.qkv.forward(x, info.positions)
        query = name_for_remat(constrain(query, "batch", "seq", "heads", None), "query")
        if key is None or value is None:
            return query, None
        key = name_for_remat(constrain(key, "batch", "seq", "kv_heads", None), "key")
        value = name_for_remat(constrain(value, "batch", "seq", "kv_heads", None), "value")
        return query, KeysAndValues(key, value)

    def _keys(self, own: KeysAndValues | None, info: SequenceInfo) -> KeysAndValues:
        """Returns what to attend to: this layer's own, or else what an earlier one offers."""
        keys = info.shared if own is None else own
        if keys is None:
            raise ConfigError(
                f"{self.path} has no keys of its own ({type(self.qkv).__name__}) and no layer "
                "before it offers any; put it into the `rest` of a SharedKeys"
            )
        if self.config.offers_keys:
            self.add_module_output("offered_keys", keys)
        return keys

    def _score_options(self, info: SequenceInfo) -> dict[str, Any]:
        cfg = self.config
        biased = info.bias if self.bias is None else self.bias.forward()
        bias, bias_parameters = (None, None) if biased is None else biased
        return {
            "scale": cfg.scale,
            "logit_cap": cfg.logit_cap,
            "bias": bias,
            "bias_parameters": bias_parameters,
            "sinks": self.param("sinks") if cfg.sinks else None,
        }

    def _output(self, context: jax.Array, x: jax.Array) -> jax.Array:
        context = constrain(context, "batch", "seq", "heads", None)
        context = name_for_remat(context, "context")
        if self.gate is not None:
            context = context * jax.nn.sigmoid(self.gate.forward(x))
        return self.output.forward(context)
