"""Losses of whole sequences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import Module


class SequenceLoss(Module):
    """The loss of scores, summed over targets with their weights."""

    class Config(Module.Config):
        # Set by the model.
        num_classes: int = REQUIRED
        packed: int | None = None

    def forward(self, scores: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        """Returns the weighted sum of the losses, [] float32, and adds summaries.

        Args:
            scores: [..., num_classes] float32, where ... is [batch], or [batch, packed].
            targets: [...], what it holds is said by the loss.
            weights: [...], 0 where there is no target.
        """
        raise NotImplementedError(type(self))


class ClassCrossEntropy(SequenceLoss):
    """lse(scores) - scores_t, where the target t is the number of the right class."""

    def __init__(self, config: SequenceLoss.Config, **place: Any):
        super().__init__(config, **place)
        if self.config.num_classes < 2:
            raise ConfigError(
                f"num_classes (={self.config.num_classes}) must be at least 2 for a choice between "
                "classes; a single score has loss=SquaredError or, to prefer one sequence to "
                "others, loss=Preference"
            )

    def forward(self, scores: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        return _choice(self, scores, targets, weights)


class SquaredError(SequenceLoss):
    """mean_c (scores_c - t_c)^2, for real targets [..., num_classes], or [...] of one class."""

    def forward(self, scores: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        errors = scores - targets.astype(jnp.float32).reshape(scores.shape)
        total: jax.Array = jnp.sum(weights * jnp.mean(errors**2, axis=-1))
        self.add_summary("squared_error", total / jnp.maximum(weights.sum(), 1))
        return total


class Preference(SequenceLoss):
    """lse(s_1, ..., s_n) - s_t: one of the n sequences of a row is preferred (Plackett, Luce).

    Of two it is -log sigmoid(s_t - s_other): Bradley and Terry's model, which trains reward models
    (arXiv:2203.02155). The target t, one for each row, counts sequences from 0. A row has all
    `packed` sequences, or weight 0.
    """

    def __init__(self, config: SequenceLoss.Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.num_classes != 1 or cfg.packed is None or cfg.packed < 2:
            raise ConfigError(
                f"a preference compares one score of several sequences: num_classes "
                f"(={cfg.num_classes}) must be 1, and packed (={cfg.packed}) their number"
            )

    def forward(self, scores: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        return _choice(self, scores[..., 0], targets, weights)


def _choice(module: Module, scores: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Cross entropy between the scores [..., n] of things, of which `targets` [...] are right."""
    chosen = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    total: jax.Array = jnp.sum(weights * (jax.nn.logsumexp(scores, axis=-1) - chosen))
    count = jnp.maximum(weights.sum(), 1)
    module.add_summary("cross_entropy", total / count)
    module.add_summary("accuracy", jnp.sum(weights * (chosen >= scores.max(axis=-1))) / count)
    return total
