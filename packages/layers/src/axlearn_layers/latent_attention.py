"""Multi-head latent attention."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.kernels import attention
from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_layers.attention_layer import AttentionLayer, name_for_remat
from axlearn_layers.cache import ContiguousCache, KVCache, places_to_store
from axlearn_layers.flops import matmul_flops_per_token
from axlearn_layers.linear import Axes, Dims, Linear, Projection
from axlearn_layers.norms import Norm, RMSNorm
from axlearn_layers.rotary import cosines, rotate
from axlearn_layers.rotary_frequencies import RotaryFrequencies
from axlearn_layers.sequence import SequenceInfo


class LatentAttention(AttentionLayer):
    """Attention whose keys and values are made of one small vector per token (MLA).

    DeepSeek-V2 (arXiv:2405.04434, section 2.1), for each head h:

      c_t, r_t = x_t W_dkv;  c_t = norm(c_t)                  the latent, and the rotary key
      k_th = [c_t W_uk_h; rotary(r_t)],  v_th = c_t W_uv_h    all heads share the rotary key
      q_th = [q_c; rotary(q_r)],  with [q_c; q_r] = norm(x_t W_dq) W_uq_h

    Rotary positions need dimensions of their own here, or the latent could not be cached before
    the keys are made; so they are part of this layer and wrap nothing. The cache holds c_t and
    rotary(r_t): `kv_rank + rotary_dim` numbers per token, whatever the number of heads. Decoding
    never makes keys or values: W_uk is multiplied into the query, W_uv into what was read.
    """

    class Config(AttentionLayer.Config):
        query_rank: int | None = None  # of the queries' own latent; None projects x directly
        kv_rank: int = REQUIRED
        content_dim: int = 128  # of queries and keys, per head (qk_nope_head_dim)
        rotary_dim: int = 64  # the part with positions (qk_rope_head_dim)
        value_dim: int = 128  # per head
        theta: float = 10000.0  # base of the rotary wavelengths
        frequencies: RotaryFrequencies.Config = RotaryFrequencies.default_config()
        norm: Norm.Config = RMSNorm.default_config()  # of both latents
        projection: Projection.Config = Linear.default_config()  # of all but the output
        cache: KVCache.Config = ContiguousCache.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.rotary_dim % 2:
            raise ConfigError(
                f"rotary embedding turns pairs: rotary_dim (={cfg.rotary_dim}) must be even"
            )
        heads = ("heads", "head_dim")
        query_dim = (cfg.num_heads, cfg.content_dim + cfg.rotary_dim)
        self.query_down: Projection | None = None
        if cfg.query_rank is None:
            self.query = self._project("query", cfg.input_dim, query_dim, "embed", heads)
        else:
            self.query_down = self._project(
                "query_down", cfg.input_dim, cfg.query_rank, "embed", None
            )
            self.query_norm = self._add_norm("query_norm", cfg.query_rank)
            self.query = self._project("query", cfg.query_rank, query_dim, None, heads)
        self.kv_down = self._project(
            "kv_down", cfg.input_dim, cfg.kv_rank + cfg.rotary_dim, "embed", None
        )
        self.kv_norm = self._add_norm("kv_norm", cfg.kv_rank)
        up = (cfg.num_heads, cfg.content_dim + cfg.value_dim)
        self.kv_up = self._project("kv_up", cfg.kv_rank, up, None, heads)
        self.output = self.add_output(cfg.value_dim)
        self._frequencies: RotaryFrequencies = cfg.frequencies.instantiate()
        self._scale = (cfg.content_dim + cfg.rotary_dim) ** -0.5 if cfg.scale is None else cfg.scale
        # One key for all heads, of which the value is a part.
        self.cache: KVCache = self.add_child(
            "cache",
            cfg.cache.set(
                num_kv_heads=1,
                head_dim=cfg.kv_rank + cfg.rotary_dim,
                value_dim=0,
                window=cfg.mask.reach,
            ),
        )

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        cfg = self.config
        query = self._query(x, info.positions)
        latent, rotary_key = self._latent(x, info.positions)
        up = self.kv_up.forward(latent)  # [batch, seq, heads, content + value]
        shared = jnp.broadcast_to(rotary_key, (*up.shape[:3], cfg.rotary_dim))
        key = jnp.concatenate([up[..., : cfg.content_dim], shared], axis=-1)
        context = attention(
            query,
            name_for_remat(key, "key"),
            name_for_remat(up[..., cfg.content_dim :], "value"),
            **self.within_rows(info),
            scale=self._scale,
            logit_cap=cfg.logit_cap,
            implementation=cfg.kernel,
        )
        return self.output.forward(name_for_remat(context, "context"))

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return self.cache.init(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        assert info.positions is not None, "the model gives positions when it extends"
        cfg = self.config
        latent, rotary_key = self._latent(x, info.positions)
        cached = jnp.concatenate([latent[:, :, None], rotary_key], axis=-1)
        places = places_to_store(info.positions, info.segment_ids)
        cache, seen = self.cache.update(cache, cached, cached[..., :0], places)
        key = seen.key.astype(x.dtype)

        weight = self.kv_up.weight().astype(x.dtype)  # [kv_rank, heads, content + value]
        query = self._query(x, info.positions)
        content = jnp.einsum(
            "bshc,rhc->bshr", query[..., : cfg.content_dim], weight[..., : cfg.content_dim]
        )
        context = attention(
            jnp.concatenate([content, query[..., cfg.content_dim :]], axis=-1),
            key,
            key[..., : cfg.kv_rank],
            mask=cfg.mask.within_segment,
            scale=self._scale,
            logit_cap=cfg.logit_cap,
            query_positions=info.positions,
            key_positions=seen.positions,
        )
        value = jnp.einsum("bshr,rhv->bshv", context, weight[..., cfg.content_dim :])
        return self.output.forward(value), cache

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Adds the scores and their product with the values."""
        cfg = self.config
        scores = self.scores_flops(seq_length, cfg.content_dim + cfg.rotary_dim, cfg.value_dim)
        return matmul_flops_per_token(self, seq_length) + scores

    def _query(self, x: jax.Array, positions: jax.Array | None) -> jax.Array:
        """Returns [batch, seq, heads, content_dim + rotary_dim], turned."""
        if self.query_down is not None:
            x = self.query_norm.forward(self.query_down.forward(x))
        query = self.query.forward(x)
        content = self.config.content_dim
        turned = self._turn(query[..., content:], positions)
        return name_for_remat(jnp.concatenate([query[..., :content], turned], axis=-1), "query")

    def _latent(self, x: jax.Array, positions: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns the latent, [batch, seq, kv_rank], and the key, [batch, seq, 1, rotary_dim]."""
        down = name_for_remat(self.kv_down.forward(x), "latent")
        rank = self.config.kv_rank
        rotary_key = self._turn(down[..., None, rank:], positions)
        return self.kv_norm.forward(down[..., :rank]), rotary_key

    def _turn(self, x: jax.Array, positions: jax.Array | None) -> jax.Array:
        cfg = self.config
        if positions is None:
            positions = jnp.arange(x.shape[1])[None]
        cos, sin = cosines(self._frequencies, cfg.theta, cfg.rotary_dim, positions, x.dtype)
        return rotate(x, cos, sin)

    def _project(
        self, name: str, inputs: Dims, outputs: Dims, input_axes: Axes, output_axes: Axes
    ) -> Projection:
        projection: Projection = self.add_child(
            name,
            self.config.projection.clone(
                input_dim=inputs,
                output_dim=outputs,
                input_axes=input_axes,
                output_axes=output_axes,
            ),
        )
        return projection

    def _add_norm(self, name: str, dim: int) -> Norm:
        norm: Norm = self.add_child(name, self.config.norm.clone(input_dim=dim, axis=None))
        return norm
