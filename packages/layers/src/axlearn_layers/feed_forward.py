"""Position-wise feed-forward layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import jax
from jax.ad_checkpoint import checkpoint_name

from axlearn_core.config import REQUIRED, ConfigOr, Configurable, maybe_instantiate
from axlearn_core.module import Layer, remat
from axlearn_core.parallel import constrain
from axlearn_layers.activations import activation
from axlearn_layers.linear import Linear, Projection

DimRule = Callable[[int], int]


class ScaledDim(Configurable):
    """A hidden dimension as a multiple of the input's: `factor * input_dim`, rounded up."""

    class Config(Configurable.Config):
        factor: float = 4.0
        multiple_of: int = 1

    def __call__(self, input_dim: int) -> int:
        multiple = self.config.multiple_of
        return math.ceil(self.config.factor * input_dim / multiple) * multiple


class FeedForward(Layer):
    """Maps each vector of [batch, seq, input_dim] by itself, through a wider hidden layer."""

    class Config(Layer.Config):
        input_dim: int = REQUIRED  # set by the block
        hidden_dim: ConfigOr[int | DimRule] = REQUIRED  # or a function of input_dim

    def forward(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError(type(self))

    def _hidden_dim(self) -> int:
        hidden = cast(int | DimRule, maybe_instantiate(self.config.hidden_dim))
        return hidden if isinstance(hidden, int) else hidden(self.config.input_dim)


class GatedFeedForward(FeedForward):
    """y = (act(x W_g) * (x W_u)) W_d (arXiv:2002.05202); SwiGLU with the default activation.

    W_g and W_u are one weight, [embed, 2, mlp] in this order, for one matrix product. The product
    of gate and value is not kept for the backward pass but made again.
    """

    class Config(FeedForward.Config):
        activation: str = "silu"
        gate_up: Projection.Config = Linear.default_config()
        down: Projection.Config = Linear.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        hidden = self._hidden_dim()
        self._activation = activation(cfg.activation)
        self.gate_up: Projection = self.add_child(
            "gate_up",
            cfg.gate_up.set(
                input_dim=cfg.input_dim,
                output_dim=(2, hidden),
                input_axes="embed",
                output_axes=(None, "mlp"),
            ),
        )
        self.down: Projection = self.add_child("down", _down(cfg.down, hidden, cfg.input_dim))

    def forward(self, x: jax.Array) -> jax.Array:
        gate_up = constrain(self.gate_up.forward(x), "batch", "seq", None, "mlp")
        gate_up = checkpoint_name(gate_up, "feed_forward_gate_up")
        return remat(self._gated_down)(gate_up)

    def _gated_down(self, gate_up: jax.Array) -> jax.Array:
        return self.down.forward(self._activation(gate_up[..., 0, :]) * gate_up[..., 1, :])


class DenseFeedForward(FeedForward):
    """y = act(x W_u + b_u) W_d + b_d, as in GPT-2 (whose GELU is the tanh approximation)."""

    class Config(FeedForward.Config):
        activation: str = "gelu"
        up: Projection.Config = Linear.default_config().set(bias=True)
        down: Projection.Config = Linear.default_config().set(bias=True)

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        hidden = self._hidden_dim()
        self._activation = activation(cfg.activation)
        self.up: Projection = self.add_child(
            "up",
            cfg.up.set(
                input_dim=cfg.input_dim, output_dim=hidden, input_axes="embed", output_axes="mlp"
            ),
        )
        self.down: Projection = self.add_child("down", _down(cfg.down, hidden, cfg.input_dim))

    def forward(self, x: jax.Array) -> jax.Array:
        hidden = constrain(self.up.forward(x), "batch", "seq", "mlp")
        hidden = checkpoint_name(hidden, "feed_forward_up")
        return remat(lambda hidden: self.down.forward(self._activation(hidden)))(hidden)


def _down(cfg: Projection.Config, hidden: int, output: int) -> Projection.Config:
    return cfg.set(input_dim=hidden, output_dim=output, input_axes="mlp", output_axes="embed")
