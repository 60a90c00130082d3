"""Cross entropy of an output head, without ever holding the logits of all tokens."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_core.kernels import Targets, cross_entropy
from axlearn_core.module import Module
from axlearn_layers.targets import check_targets


class TokenLoss(Module):
    """The loss of a model's tokens, from the vectors and the table of its output head."""

    class Config(Module.Config):
        """A loss's fields."""

    def forward(
        self,
        hidden: jax.Array,
        table: jax.Array,
        targets: Targets,
        weights: jax.Array,
        logit_cap: float | None = None,
    ) -> jax.Array:
        """Returns the weighted sum of all tokens' losses, [] float32, and adds summaries.

        Args:
            hidden: [batch, seq, dim].
            table: [vocab_size, dim].
            targets: [batch, seq] int, or `SoftTargets`, which get no gradient.
            weights: [batch, seq], 0 for tokens that do not count.
            logit_cap: The model's, see `soft_cap`.
        """
        raise NotImplementedError(type(self))


class LinearCrossEntropy(TokenLoss):
    """Sum_t w_t * (sum_v q_tv (lse_t - logit_tv) + z * lse_t^2), with logits = hidden @ table^T.

    lse is the log of the summed exponentials; z pulls it towards 0 (z-loss, arXiv:2204.02311). q is
    1 at the target, or a distribution p, such as a teacher's (arXiv:1503.02531). Smoothed
    (arXiv:1512.00567) it is (1 - e) p_v + e / vocab_size * sum(p). Logits may be soft-capped
    first.

    A temperature of the teacher is part of its probabilities, softmax(logits / T); the paper's
    student has it too, which is to divide `hidden` by T and multiply the loss by T^2.
    """

    class Config(TokenLoss.Config):
        z_loss_scale: float = 0.0  # PaLM takes 1e-4
        label_smoothing: float = 0.0  # e, in [0, 1)
        # Tokens of each sequence whose logits exist at one time: batch * chunk_size * vocab_size
        # float32 numbers. Smaller needs less memory, larger is faster on accelerators.
        chunk_size: int = 128
        kernel: str | None = None  # forces an implementation; None takes the best that is there

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        if not 0 <= self.config.label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing (={self.config.label_smoothing}) must be at least 0 and below 1"
            )

    def forward(
        self,
        hidden: jax.Array,
        table: jax.Array,
        targets: Targets,
        weights: jax.Array,
        logit_cap: float | None = None,
    ) -> jax.Array:
        cfg = self.config
        check_targets(targets, weights)
        sums = cross_entropy(
            hidden,
            table,
            targets,
            weights,
            z_loss_scale=cfg.z_loss_scale,
            label_smoothing=cfg.label_smoothing,
            logit_cap=logit_cap,
            chunk_size=cfg.chunk_size,
            implementation=cfg.kernel,
        )
        count = jnp.maximum(weights.sum(), 1)
        self.add_summary("cross_entropy", sums.cross_entropy / count)
        self.add_summary("accuracy", sums.correct / count)
        if cfg.z_loss_scale:
            self.add_summary("z_loss", sums.z_loss / count)
        return sums.total
