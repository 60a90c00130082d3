"""Mamba-2, a state-space layer."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_core.module import ParameterSpec, no_context, ones
from axlearn_core.module.context import Tree
from axlearn_core.parallel import constrain
from axlearn_layers.conv import CausalConv
from axlearn_layers.flops import matmul_flops_per_token
from axlearn_layers.linear import Linear, Projection
from axlearn_layers.recurrent import RecurrentLayer
from axlearn_layers.ssd import SSDInputs, ssd


class Mamba2(RecurrentLayer):
    """Mixes tokens by a linear recurrence instead of attention (Mamba-2, arXiv:2405.21060).

    z, x, B, C, dt = projections of the input; x, B, C = silu(conv(x, B, C))
    dt = softplus(dt + dt_bias); S_t = exp(-dt_t exp(a_log)) S_{t-1} + dt_t x_t B_t^T
    y_t = S_t C_t + d x_t, of each head
    output = norm(y * silu(z)) W_o, with an RMS norm of each group's heads

    The state is [heads, head_dim, state_dim], however long the sequence. Each document starts with
    a state of 0. The one projection of the paper's code is three here, so that heads may be split
    over devices: z and x [heads, 2, head_dim], B and C [2, groups, state_dim], dt [heads].
    """

    class Config(RecurrentLayer.Config):
        state_dim: int = 128
        head_dim: int = 64
        expand: int = 2  # heads * head_dim = expand * input_dim
        num_groups: int = 1  # heads of a group share B and C, as grouped queries share keys
        chunk_size: int = 128
        projection: Projection.Config = Linear.default_config()  # of all three
        conv: CausalConv.Config = CausalConv.default_config()  # of x, and of B and C
        eps: float = 1e-5  # of the norm
        output: Projection.Config = Linear.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        inner = cfg.expand * cfg.input_dim
        self.num_heads: int = inner // cfg.head_dim
        if inner % cfg.head_dim:
            raise ConfigError(
                f"head_dim (={cfg.head_dim}) must divide expand * input_dim (={inner})"
            )
        if self.num_heads % cfg.num_groups:
            raise ConfigError(
                f"num_groups (={cfg.num_groups}) must divide the heads "
                f"(={self.num_heads}, expand * input_dim / head_dim)"
            )
        heads = ("heads", None, "head_dim")

        def project(name: str, dims: tuple[int, ...], axes: tuple[str | None, ...]) -> Projection:
            made: Projection = self.add_child(
                name,
                cfg.projection.clone(
                    input_dim=cfg.input_dim, output_dim=dims, input_axes="embed", output_axes=axes
                ),
            )
            return made

        keys = (2, cfg.num_groups, cfg.state_dim)
        self.gate_value = project("gate_value", (self.num_heads, 2, cfg.head_dim), heads)
        self.key_query = project("key_query", keys, (None, None, None))
        self.step = project("step", (self.num_heads,), ("heads",))
        self.value_conv: CausalConv = self.add_child(
            "value_conv", cfg.conv.clone(dims=(self.num_heads, cfg.head_dim), axes=heads[::2])
        )
        self.key_query_conv: CausalConv = self.add_child(
            "key_query_conv", cfg.conv.clone(dims=keys, axes=(None, None, None))
        )
        self.output: Projection = self.add_child(
            "output",
            cfg.output.set(
                input_dim=(self.num_heads, cfg.head_dim),
                output_dim=cfg.input_dim,
                input_axes=("heads", "head_dim"),
                output_axes="embed",
            ),
        )

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        def of_heads(initializer: Any) -> ParameterSpec:
            return ParameterSpec(
                (self.num_heads,),
                ("heads",),
                initializer,
                self.config.dtype,
                weight_decay_scale=0.0,
                keeps_precision=True,  # decays close to 1 differ in their last digits
            )

        scale = ParameterSpec(
            (self.num_heads, self.config.head_dim),
            ("heads", "head_dim"),
            ones,
            self.config.dtype,
            weight_decay_scale=0.0,
        )
        return {
            "a_log": of_heads(decay_initializer),
            "dt_bias": of_heads(step_bias_initializer),
            "d": of_heads(ones),
            "scale": scale,
        }

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """Of the same size for any length; the state is float32."""
        cfg = self.config
        shape = (batch_size, self.num_heads, cfg.head_dim, cfg.state_dim)
        return {
            "state": constrain(jnp.zeros(shape, jnp.float32), "batch", "heads", None, None),
            "value": self.value_conv.init_cache(batch_size, dtype),
            "key_query": self.key_query_conv.init_cache(batch_size, dtype),
        }

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Adds the recurrence as it is defined: one update and one reading of the state."""
        cfg = self.config
        state = self.num_heads * cfg.head_dim * cfg.state_dim
        return matmul_flops_per_token(self, seq_length) + 4.0 * state

    def _mix(
        self, x: jax.Array, cache: Tree, document: jax.Array, counts: jax.Array
    ) -> tuple[jax.Array, Tree]:
        cfg = self.config
        gate_value = self.gate_value.forward(x)  # [batch, seq, heads, 2, head_dim]
        gate = gate_value[..., 0, :]
        value, value_cache = self.value_conv.forward(
            gate_value[..., 1, :], cache["value"], document, counts
        )
        key_query, key_query_cache = self.key_query_conv.forward(
            self.key_query.forward(x), cache["key_query"], document, counts
        )
        value, key_query = jax.nn.silu(value), jax.nn.silu(key_query)
        step = self.step.forward(x).astype(jnp.float32) + self.param("dt_bias")
        inputs = SSDInputs(
            value=value,
            step=jax.nn.softplus(step) * counts[..., None],
            key=key_query[:, :, 0],
            query=key_query[:, :, 1],
        )
        rate = -jnp.exp(self.param("a_log").astype(jnp.float32))
        y, state = ssd(inputs, rate, cache["state"], document, cfg.chunk_size)
        y = y + self.param("d").astype(jnp.float32)[:, None] * value
        normed = self._norm(y * jax.nn.silu(gate.astype(jnp.float32))).astype(x.dtype)
        cache = {"state": state, "value": value_cache, "key_query": key_query_cache}
        return self.output.forward(normed), cache

    def _norm(self, y: jax.Array) -> jax.Array:
        """[batch, seq, heads, head_dim] -> the same shape, each group by itself."""
        grouped = y.reshape(*y.shape[:2], self.config.num_groups, -1)
        mean_square = jnp.mean(grouped * grouped, axis=-1, keepdims=True)
        normed = grouped * jax.lax.rsqrt(mean_square + self.config.eps)
        return normed.reshape(y.shape) * self.param("scale")


def decay_initializer(key: jax.Array, spec: ParameterSpec) -> jax.Array:
    """log of uniform numbers from 1 to 16."""
    return jnp.log(jax.random.uniform(key, spec.shape, minval=1, maxval=16)).astype(spec.dtype)


def step_bias_initializer(key: jax.Array, spec: ParameterSpec) -> jax.Array:
    """The inverse softplus of steps from 0.001 to 0.1, uniform in their logarithm."""
    low, high = math.log(1e-3), math.log(1e-1)
    step = jnp.exp(jax.random.uniform(key, spec.shape, minval=low, maxval=high))
    return (step + jnp.log(-jnp.expm1(-step))).astype(spec.dtype)
