"""Mixture of experts."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from axlearn_core.config import REQUIRED
from axlearn_core.kernels import QuantizedFormat
from axlearn_core.module import (
    BaseInitializer,
    FanIn,
    Layer,
    ParameterSpec,
    capture_with_state,
    current_context,
    map_specs,
    no_context,
)
from axlearn_core.module.context import Tree
from axlearn_layers.activations import activation
from axlearn_layers.dispatch import Dispatch, Dropless, ExpertFunction, Multiply
from axlearn_layers.feed_forward import FeedForward
from axlearn_layers.flops import flops_per_token, matmul_flops_per_token
from axlearn_layers.router import Router, SoftmaxRouter


class Experts(Layer):
    """Feed-forward layers side by side, for rows of which each has one expert.

    Where experts are divided among devices, each device computes its own, and sees no more of the
    parameters: a part along their first axis "expert", and one along "mlp" where that is divided
    too. The outputs of the latter parts are added up. So all is computed from the parameters'
    shapes, without random numbers or side outputs.
    """

    class Config(Layer.Config):
        # All set by the mixture.
        input_dim: int = REQUIRED
        hidden_dim: int = REQUIRED
        num_experts: int = REQUIRED

    def forward(self, rows: jax.Array, multiply: Multiply) -> jax.Array:
        """Maps rows [..., input_dim] to the same shape.

        `multiply(rows, weights)` multiplies each row by its expert's matrix of the weights
        [num_experts, in, out].
        """
        raise NotImplementedError(type(self))


class GatedExperts(Experts):
    """Expert e computes (act(x G_e) * (x U_e)) D_e, as `GatedFeedForward` does.

    G and U are one weight, [expert, embed, 2, mlp] in this order; D is [expert, mlp, embed].
    """

    _format: QuantizedFormat | None = None  # of products of eight bits

    class Config(Experts.Config):
        activation: str = "silu"
        initializer: BaseInitializer.Config = FanIn.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        self._activation = activation(self.config.activation)
        self._initializer = self.config.initializer.instantiate()

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config

        def weight(shape: tuple[int, ...], *axes: str | None) -> ParameterSpec:
            return ParameterSpec(
                (cfg.num_experts, *shape),
                ("expert", *axes),
                self._initializer,
                cfg.dtype,
                fan_in_axes=(1,),
            )

        return {
            "gate_up": weight((cfg.input_dim, 2, cfg.hidden_dim), "embed", None, "mlp"),
            "down": weight((cfg.hidden_dim, cfg.input_dim), "mlp", "embed"),
        }

    def forward(self, rows: jax.Array, multiply: Multiply) -> jax.Array:
        if self._format is not None:
            multiply = partial(multiply, format=self._format)
        gate_up = self.param("gate_up").astype(rows.dtype)
        hidden = multiply(rows, gate_up.reshape(*gate_up.shape[:2], -1))
        hidden = checkpoint_name(hidden, "feed_forward_gate_up")
        gated = jax.checkpoint(self._gated)(hidden)
        return multiply(gated, self.param("down").astype(rows.dtype))

    def _gated(self, gate_up: jax.Array) -> jax.Array:
        gate, up = jax.numpy.split(gate_up, 2, axis=-1)
        return self._activation(gate) * up


class MixtureOfExperts(FeedForward):
    """y_t = sum_e w_te expert_e(x_t) + shared(x_t), few w_te not 0 (arXiv:1701.06538).

    The router says which experts a token gets and with what weight, the dispatch how it comes to
    them, the experts what they compute. All may be exchanged, and the whole stands wherever a
    dense feed-forward layer does; `hidden_dim` is one expert's. Padding is routed like any token.
    """

    class Config(FeedForward.Config):
        num_experts: int = REQUIRED
        top_k: int = REQUIRED  # experts per token
        router: Router.Config = SoftmaxRouter.default_config()
        dispatch: Dispatch.Config = Dropless.default_config()
        experts: Experts.Config = GatedExperts.default_config()
        shared: FeedForward.Config | None = None  # of every token (arXiv:2401.06066)

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        sizes = {"num_experts": cfg.num_experts, "top_k": cfg.top_k}
        self.router: Router = self.add_child(
            "router", cfg.router.set(input_dim=cfg.input_dim, **sizes)
        )
        self.dispatch: Dispatch = self.add_child("dispatch", cfg.dispatch.set(**sizes))
        self.experts: Experts = self.add_child(
            "experts",
            cfg.experts.set(
                input_dim=cfg.input_dim,
                hidden_dim=self._hidden_dim(),
                num_experts=cfg.num_experts,
            ),
        )
        self.shared: FeedForward | None = None
        if cfg.shared is not None:
            self.shared = self.add_child("shared", cfg.shared.set(input_dim=cfg.input_dim))

    def forward(self, x: jax.Array) -> jax.Array:
        y = self.dispatch.forward(x, self.router.forward(x), self._expert_function())
        return y if self.shared is None else y + self.shared.forward(x)

    def _expert_function(self) -> ExpertFunction:
        call = capture_with_state(self.experts.forward)

        def compute(parameters: Tree, rows: jax.Array, multiply: Multiply) -> jax.Array:
            outputs, side = call({"experts": parameters}, None, rows, multiply)
            if jax.tree.leaves(side):
                raise ValueError(
                    f"{self.experts.path} adds summaries, losses or state updates, which experts "
                    "cannot, since each device computes others; add them in a router, or beside "
                    "the mixture"
                )
            return outputs

        axes = map_specs(lambda spec: spec.axes, self.experts.parameter_specs())
        return ExpertFunction(compute, current_context().state.get("experts", {}), axes)

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Of `num_experts` only `top_k` count: what a token needs, not what a dispatch pads."""
        experts = flops_per_token(self.experts, seq_length)
        idle = 1 - self.config.top_k / self.config.num_experts
        return matmul_flops_per_token(self, seq_length) - idle * experts
