"""Token embeddings."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED
from axlearn_core.module import BaseInitializer, Layer, Normal, ParameterSpec, no_context
from axlearn_core.parallel import constrain, weight_rows


class Embedding(Layer):
    """A table with one vector per token, read by rows (`forward`) or as output head (`attend`).

    With tied embeddings (arXiv:1608.05859) one table does both.
    """

    class Config(Layer.Config):
        vocab_size: int = REQUIRED
        dim: int = REQUIRED
        scale: float | None = None  # of the vectors looked up; Gemma takes sqrt(dim)
        initializer: BaseInitializer.Config = Normal.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        self._initializer = self.config.initializer.instantiate()

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        shape, axes = (cfg.vocab_size, cfg.dim), ("vocab", "embed")
        weight = ParameterSpec(shape, axes, self._initializer, cfg.dtype, fan_in_axes=(1,))
        return {"weight": weight}

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """Reading rows multiplies nothing; an output head is counted by its model."""
        return 0.0

    def forward(self, ids: jax.Array) -> jax.Array:
        """[...] int -> [..., dim]."""
        vectors = _lookup(self.param("weight"), ids)
        return vectors if self.config.scale is None else vectors * self.config.scale

    def attend(self, x: jax.Array) -> jax.Array:
        """Scores x against every token: [..., dim] -> [..., vocab_size] float32 logits."""
        weight = self.param("weight").astype(x.dtype)
        return jnp.einsum("...d,vd->...v", x, weight, preferred_element_type=jnp.float32)

    def table(self) -> jax.Array:
        """Returns the [vocab_size, dim] weight, for a loss that fuses `attend`."""
        return self.param("weight")


def _lookup(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Returns the rows [..., dim] of a table [vocab, dim].

    On a mesh every device looks up its part of `dim`, for the tokens of all that have the others,
    so that what moves is vectors of tokens and never the table.
    """
    if ids.ndim != 2:
        return weight_rows(table, ids)
    # A mesh axis serves the first that wants it, and that must be "embed".
    ids = constrain(ids[None], "embed", "batch", "seq")[0]
    vectors = jnp.moveaxis(weight_rows(constrain(table, "vocab", "embed"), ids), -1, 0)
    return jnp.moveaxis(constrain(vectors, "embed", "batch", "seq"), 0, -1)
