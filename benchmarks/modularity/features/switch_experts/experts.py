"""A mixture of experts of which each token has one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import maybe_instantiate
from axlearn_core.module import FanIn, ParameterSpec, no_context
from axlearn_layers import FeedForward, activation


class SwitchExperts(FeedForward):
    """y = p_e(x) act(x U_e) D_e, e = argmax p(x), p(x) = softmax(x R) (arXiv:2101.03961).

    Every expert computes every token, and one of them counts: exact, and right for few experts
    that are small. Experts are kept equally busy by the paper's loss, n sum_e f_e P_e, of each
    sequence.
    """

    class Config(FeedForward.Config):
        activation: str = "gelu"
        num_experts: int = 4
        balance_loss_scale: float = 0.01

    def __init__(self, config: FeedForward.Config, **place: Any):
        super().__init__(config, **place)
        hidden = maybe_instantiate(self.config.hidden_dim)
        self.hidden_dim: int = hidden if isinstance(hidden, int) else hidden(self.config.input_dim)
        self.act = activation(self.config.activation)

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        fan_in = FanIn.default_config().instantiate()
        count, dim, hidden = cfg.num_experts, cfg.input_dim, self.hidden_dim
        up, down = ("expert", "embed", "mlp"), ("expert", "mlp", "embed")
        return {
            "router": ParameterSpec((dim, count), ("embed", "expert"), fan_in, cfg.dtype),
            "up": ParameterSpec((count, dim, hidden), up, fan_in, cfg.dtype, (1,)),
            "down": ParameterSpec((count, hidden, dim), down, fan_in, cfg.dtype, (1,)),
        }

    def forward(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        router, up, down = (self.param(name).astype(x.dtype) for name in ("router", "up", "down"))
        probabilities = jax.nn.softmax((x @ router).astype(jnp.float32))
        chosen = jax.nn.one_hot(probabilities.argmax(axis=-1), cfg.num_experts)
        busy = chosen.mean(axis=1, keepdims=True)
        balance = cfg.num_experts * (busy * probabilities).sum(axis=-1)
        self.add_loss("balance", cfg.balance_loss_scale * balance)
        hidden = self.act(jnp.einsum("bsd,edh->bseh", x, up))
        weights = (chosen * probabilities).astype(x.dtype)
        return jnp.einsum("bse,bseh,ehd->bsd", weights, hidden, down)
