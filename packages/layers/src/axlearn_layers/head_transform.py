"""What hidden vectors pass through on their way to a head."""

from __future__ import annotations

from typing import Any

import jax

from axlearn_core.config import REQUIRED
from axlearn_core.module import Layer
from axlearn_layers.activations import activation
from axlearn_layers.linear import Linear, Projection
from axlearn_layers.norms import LayerNorm, Norm


class HeadTransform(Layer):
    """y = norm(act(x W + b)), of the same width as x (BERT, arXiv:1810.04805).

    BERT's masked language model has one as it stands here; its pooler has tanh and no norm.
    """

    class Config(Layer.Config):
        dim: int = REQUIRED  # set by the model
        projection: Projection.Config = Linear.default_config().set(bias=True)
        activation: str = "gelu"
        norm: Norm.Config | None = LayerNorm.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self._activation = activation(cfg.activation)
        self.projection: Projection = self.add_child(
            "projection",
            cfg.projection.set(
                input_dim=cfg.dim, output_dim=cfg.dim, input_axes="embed", output_axes=None
            ),
        )
        self.norm: Norm | None = None
        if cfg.norm is not None:
            self.norm = self.add_child("norm", cfg.norm.set(input_dim=cfg.dim))

    def forward(self, x: jax.Array) -> jax.Array:
        """[..., dim] -> [..., dim]."""
        y = self._activation(self.projection.forward(x))
        return y if self.norm is None else self.norm.forward(y)
