"""Gated delta net, a linear attention that can overwrite."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import ParameterSpec, no_context
from axlearn_core.module.context import Tree
from axlearn_core.parallel import constrain
from axlearn_layers.chunks import Decay, scan_chunks
from axlearn_layers.conv import CausalConv
from axlearn_layers.flops import matmul_flops_per_token
from axlearn_layers.linear import Linear, Projection
from axlearn_layers.mamba import decay_initializer, step_bias_initializer
from axlearn_layers.norms import Norm, RMSNorm
from axlearn_layers.recurrent import RecurrentLayer


class DeltaInputs(NamedTuple):
    """What the recurrence reads of each token, each [batch, seq, heads, ...] float32."""

    query: jax.Array
    key: jax.Array
    value: jax.Array
    rate: jax.Array  # beta, [batch, seq, heads]; 0 writes nothing


def gated_delta_rule(
    inputs: DeltaInputs,
    log_decay: jax.Array,
    state: jax.Array,
    document: jax.Array,
    chunk_size: int,
) -> tuple[jax.Array, jax.Array]:
    """Computes S_t = a_t S_{t-1} + k_t u_t^T with u_t = beta_t (v_t - a_t S_{t-1}^T k_t), and
    y_t = S_t^T q_t, of each head: what the state holds for a key moves towards its value.

    Within a chunk the u solve a triangular system, (I + L) U = beta (V - decayed K S), where
    L_ij = beta_i decay_ij k_i . k_j for j < i (arXiv:2412.06464).

    Args:
        inputs: see there.
        log_decay: [batch, seq, heads], log a.
        state: [batch, heads, key_dim, value_dim] float32 before the first token, of document 0.
        document: [batch, seq] int, a new number where the state starts anew; none comes back.
        chunk_size: tokens of a chunk.

    Returns:
        y, [batch, seq, heads, value_dim], and the last state.
    """
    return scan_chunks(_chunk, state, inputs, log_decay, document, chunk_size)


def _chunk(state: jax.Array, chunk: DeltaInputs, decay: Decay) -> tuple[jax.Array, jax.Array]:
    query, key, value, rate = chunk
    within, rate = jnp.moveaxis(decay.within, 3, 1), rate[..., None]  # [batch, heads, i, j]
    overlap = jnp.einsum("bihk,bjhk->bhij", rate * key, key) * within
    remembered = jnp.einsum("bihk,bhkv,bih->bihv", key, state, decay.before)
    wanted = jnp.swapaxes(rate * (value - remembered), 1, 2)  # [batch, heads, i, value_dim]
    # Reads only what lies below the diagonal, and takes the diagonal to be 1.
    written = solve_triangular(overlap, wanted, lower=True, unit_diagonal=True)
    scores = jnp.einsum("bihk,bjhk->bhij", query, key) * within
    y = jnp.einsum("bhij,bhjv->bihv", scores, written)
    y += jnp.einsum("bihk,bhkv,bih->bihv", query, state, decay.before)
    added = jnp.einsum("bjhk,bhjv,bjh->bhkv", key, written, decay.after)
    return y, state * decay.before[:, -1, :, None, None] + added


class GatedDeltaNet(RecurrentLayer):
    """Mixes tokens by the gated delta rule instead of attention (arXiv:2412.06464).

    q, k, v, z, b, a = projections of the input; q, k, v = silu(conv(q, k, v)), without bias
    y = gated_delta_rule(q / |q| / sqrt(key_dim), k / |k|, v, sigmoid(b),
                         decay exp(-exp(a_log) softplus(a + dt_bias)))
    output = (norm(y) * silu(z)) W_o, the norm of each head

    The state is [value_heads, key_dim, value_dim], however long the sequence; each document starts
    with a state of 0. Value head h uses the query and key of head h // (num_value_heads /
    num_heads), as in Qwen3-Next. The weights are q and k [2, heads, key_dim], v and z
    [value_heads, 2, value_dim], b and a [value_heads, 2].
    """

    class Config(RecurrentLayer.Config):
        num_heads: int = REQUIRED
        num_value_heads: int | None = None  # None is num_heads
        key_dim: int = 128  # of a head
        value_dim: int = 128  # of a head
        chunk_size: int = 64
        projection: Projection.Config = Linear.default_config()  # of all three
        conv: CausalConv.Config = CausalConv.default_config().set(bias=False)  # of both
        norm: Norm.Config = RMSNorm.default_config()
        output: Projection.Config = Linear.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        heads = cfg.num_heads if cfg.num_value_heads is None else cfg.num_value_heads
        if heads % cfg.num_heads:
            raise ConfigError(
                f"num_heads (={cfg.num_heads}) must divide num_value_heads (={heads})"
            )
        self.num_value_heads: int = heads

        def project(name: str, dims: tuple[int, ...], *axes: str | None) -> Projection:
            made: Projection = self.add_child(
                name,
                cfg.projection.clone(
                    input_dim=cfg.input_dim, output_dim=dims, input_axes="embed", output_axes=axes
                ),
            )
            return made

        keys, key_axes = (2, cfg.num_heads, cfg.key_dim), (None, "heads", "head_dim")
        values, value_axes = (heads, cfg.value_dim), ("heads", "head_dim")
        self.query_key = project("query_key", keys, *key_axes)
        self.value_gate = project(
            "value_gate", (heads, 2, cfg.value_dim), "heads", None, "head_dim"
        )
        self.rates = project("rates", (heads, 2), "heads", None)
        self.query_key_conv: CausalConv = self.add_child(
            "query_key_conv", cfg.conv.clone(dims=keys, axes=key_axes)
        )
        self.value_conv: CausalConv = self.add_child(
            "value_conv", cfg.conv.clone(dims=values, axes=value_axes)
        )
        self.norm: Norm = self.add_child("norm", cfg.norm.set(input_dim=cfg.value_dim))
        self.output: Projection = self.add_child(
            "output",
            cfg.output.set(
                input_dim=values,
                output_dim=cfg.input_dim,
                input_axes=value_axes,
                output_axes="embed",
            ),
        )

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        shape, dtype = (self.num_value_heads,), self.config.dtype
        return {
            name: ParameterSpec(
                shape,
                ("heads",),
                initializer,
                dtype,
                weight_decay_scale=0.0,
                keeps_precision=True,  # decays close to 1 differ in their last digits
            )
            for name, initializer in (
                ("a_log", decay_initializer),
                ("dt_bias", step_bias_initializer),
            )
        }

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """Of the same size for any length; the state is float32."""
        cfg = self.config
        shape = (batch_size, self.num_value_heads, cfg.key_dim, cfg.value_dim)
        return {
            "state": constrain(jnp.zeros(shape, jnp.float32), "batch", "heads", None, None),
            "query_key": self.query_key_conv.init_cache(batch_size, dtype),
            "value": self.value_conv.init_cache(batch_size, dtype),
        }

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Adds the recurrence as it is defined: reading for a key, writing, and reading."""
        cfg = self.config
        state = self.num_value_heads * cfg.key_dim * cfg.value_dim
        return matmul_flops_per_token(self, seq_length) + 6.0 * state

    def _mix(
        self, x: jax.Array, cache: Tree, document: jax.Array, counts: jax.Array
    ) -> tuple[jax.Array, Tree]:
        cfg = self.config
        query_key, query_key_cache = self.query_key_conv.forward(
            self.query_key.forward(x), cache["query_key"], document, counts
        )
        value_gate = self.value_gate.forward(x)
        value, value_cache = self.value_conv.forward(
            value_gate[..., 0, :], cache["value"], document, counts
        )
        query_key = _unit(jax.nn.silu(query_key.astype(jnp.float32)))
        query_key = jnp.repeat(query_key, self.num_value_heads // cfg.num_heads, axis=3)
        rates = self.rates.forward(x).astype(jnp.float32)
        step = jax.nn.softplus(rates[..., 1] + self.param("dt_bias"))
        decay = -jnp.exp(self.param("a_log").astype(jnp.float32)) * step
        inputs = DeltaInputs(
            query=query_key[:, :, 0] * cfg.key_dim**-0.5,
            key=query_key[:, :, 1],
            value=jax.nn.silu(value.astype(jnp.float32)),
            rate=jax.nn.sigmoid(rates[..., 0]) * counts[..., None],
        )
        y, state = gated_delta_rule(
            inputs, decay * counts[..., None], cache["state"], document, cfg.chunk_size
        )
        gate = jax.nn.silu(value_gate[..., 1, :].astype(jnp.float32))
        gated = (self.norm.forward(y) * gate).astype(x.dtype)
        cache = {"state": state, "query_key": query_key_cache, "value": value_cache}
        return self.output.forward(gated), cache


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
