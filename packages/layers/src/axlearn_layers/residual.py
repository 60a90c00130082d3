"""A residual layer of one branch."""

from __future__ import annotations

from typing import Any

import jax

from axlearn_core.config import REQUIRED
from axlearn_core.module import no_context
from axlearn_core.module.context import Tree
from axlearn_layers.norms import Norm, RMSNorm
from axlearn_layers.residual_stream import into_branch, on_stream, out_of_branch
from axlearn_layers.sequence import SequenceInfo, SequenceLayer


class Residual(SequenceLayer):
    """y = x + inner(norm(x)): half a transformer block, and a whole one of Mamba."""

    class Config(SequenceLayer.Config):
        inner: SequenceLayer.Config = REQUIRED
        norm: Norm.Config = RMSNorm.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.norm: Norm = self.add_child("norm", cfg.norm.set(input_dim=cfg.input_dim))
        self.inner: SequenceLayer = self.add_child("inner", cfg.inner.set(input_dim=cfg.input_dim))

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        return self._add_to(x, self.inner.forward(into_branch(self.norm.forward(x)), info))

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        return self.inner.init_cache(batch_size, max_length, dtype)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        mixed, cache = self.inner.extend(into_branch(self.norm.forward(x)), cache, info)
        return self._add_to(x, mixed), cache

    def _add_to(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
        return on_stream(x + out_of_branch(mixed))
