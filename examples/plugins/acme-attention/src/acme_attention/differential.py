"""An attention variant: a layer that stands wherever a model has attention."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from axlearn_core.config import ConfigError
from axlearn_core.kernels import attention
from axlearn_core.module import BaseInitializer, Normal, ParameterSpec, Tree, no_context
from axlearn_layers import (
    AttentionLayer,
    ContiguousCache,
    FusedQKV,
    KeysAndValues,
    KVCache,
    Norm,
    QKVProjection,
    RMSNorm,
    SequenceInfo,
    head_sizes,
    matmul_flops_per_token,
    name_for_remat,
)


class DifferentialAttention(AttentionLayer):
    """Attention by the difference of two maps, which cancels their noise (arXiv:2410.05258).

      context = (softmax(scale * q1 k1^T) - lambda * softmax(scale * q2 k2^T)) [v1; v2]
      y       = concat((1 - lambda_init) * norm(context)) W_o
      lambda  = exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init

    1 and 2 are neighbours of the key and value heads; each query head of the one's group goes with
    the query head of the same place in the other's. So `num_heads` is twice the paper's h, and as
    many weights do as for `Attention` of the same heads. Mask, positions, soft cap, cache and
    kernels are those of any attention.

    Deviation: lambda_init is the same in all layers, as in the paper's ablation; its main runs have
    0.8 - 0.6 exp(-0.3 (l - 1)) in layer l.
    """

    class Config(AttentionLayer.Config):
        num_kv_heads: int | None = None  # even; None is num_heads
        head_dim: int | None = None  # of one query or key; None is input_dim / num_heads
        lambda_init: float = 0.8  # in [0, 1)
        qkv: QKVProjection.Config = FusedQKV.default_config()
        norm: Norm.Config = RMSNorm.default_config().set(eps=1e-5)  # of [v1; v2], for every head
        initializer: BaseInitializer.Config = Normal.default_config().set(stddev=0.1)  # of lambda
        cache: KVCache.Config = ContiguousCache.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if not 0 <= cfg.lambda_init < 1:
            raise ConfigError(f"lambda_init (={cfg.lambda_init}) must be at least 0 and below 1")
        kv_heads, self.head_dim = head_sizes(
            cfg.input_dim, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim
        )
        if kv_heads % 2:
            raise ConfigError(
                f"differential attention pairs its heads: num_kv_heads (={kv_heads}) must be even"
            )
        sizes = {"num_kv_heads": kv_heads, "head_dim": self.head_dim}
        self.qkv: QKVProjection = self.add_child(
            "qkv", cfg.qkv.set(input_dim=cfg.input_dim, num_heads=cfg.num_heads, **sizes)
        )
        if not self.qkv.makes_keys:
            raise ConfigError(
                f"differential attention reads its own keys, and {type(self.qkv).__name__} makes "
                "none; keep Attention in layers that share another's keys"
            )
        self.norm: Norm = self.add_child(
            "norm", cfg.norm.set(input_dim=2 * self.head_dim, axis="head_dim")
        )
        self.output = self.add_output(self.head_dim)
        self.cache: KVCache = self.add_child("cache", cfg.cache.set(**sizes))
        self._initializer = cfg.initializer.instantiate()

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        spec = ParameterSpec(
            (2, self.head_dim),
            (None, "head_dim"),
            self._initializer,
            self.config.dtype,
            weight_decay_scale=0.0,
        )
        return {"lambda_query": spec, "lambda_key": spec}

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        query, keys = self._project(x, info)
        context = attention(
            query,
            keys.key,
            _paired(keys.value),
            **self.within_rows(info),
            scale=self.config.scale,
            logit_cap=self.config.logit_cap,
            implementation=self.config.kernel,
        )
        return self._output(context)

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return self.cache.init(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        assert info.positions is not None, "the model gives positions when it extends"
        query, own = self._project(x, info)
        cache, keys = self.cache.update(cache, own.key, own.value, info.positions)
        context = attention(
            query,
            keys.key.astype(x.dtype),
            _paired(keys.value.astype(x.dtype)),
            mask=self.config.mask.within_segment,
            scale=self.config.scale,
            logit_cap=self.config.logit_cap,
            query_positions=info.positions,
            key_positions=keys.positions,
        )
        return self._output(context), cache

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Adds the scores and their product with the values, which are twice as wide."""
        scores = self.scores_flops(seq_length, self.head_dim, 2 * self.head_dim)
        return matmul_flops_per_token(self, seq_length) + scores

    def _project(self, x: jax.Array, info: SequenceInfo) -> tuple[jax.Array, KeysAndValues]:
        query, key, value = self.qkv.forward(x, info.positions)
        assert key is not None and value is not None
        keys = KeysAndValues(name_for_remat(key, "key"), name_for_remat(value, "value"))
        return name_for_remat(query, "query"), keys

    def _output(self, context: jax.Array) -> jax.Array:
        """Subtracts the maps of each pair: [batch, seq, num_heads, 2 head_dim] to the output."""
        cfg, shape = self.config, context.shape
        pairs = self.cache.config.num_kv_heads // 2
        maps = name_for_remat(context, "context").reshape(*shape[:2], pairs, 2, -1, shape[-1])
        share = self._lambda().astype(context.dtype)
        difference = maps[..., 0, :, :] - share * maps[..., 1, :, :]
        normed = (1 - cfg.lambda_init) * self.norm.forward(difference)
        return self.output.forward(normed.reshape(*shape[:2], cfg.num_heads, self.head_dim))

    def _lambda(self) -> jax.Array:
        query, key = (self.param(f"lambda_{of}").astype(jnp.float32) for of in ("query", "key"))
        first, second = jnp.exp(jnp.sum(query * key, axis=-1))
        share: jax.Array = first - second + self.config.lambda_init
        return share


def _paired(value: jax.Array) -> jax.Array:
    """Gives both heads of a pair both values: [..., heads, dim] -> [..., heads, 2 dim]."""
    *rest, heads, dim = value.shape
    return jnp.repeat(value.reshape(*rest, heads // 2, 2 * dim), 2, axis=-2)
