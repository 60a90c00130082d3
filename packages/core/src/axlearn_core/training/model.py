"""What the trainer needs of a model."""

from __future__ import annotations

from typing import NamedTuple

import jax

from axlearn_core.module import Layer

Batch = dict[str, jax.Array]


class Loss(NamedTuple):
    """A sum and what to divide it by, so that parts of a batch add up exactly."""

    total: jax.Array  # [] float32: the weighted losses of all target tokens, added up
    weight: jax.Array  # [] float32: the weights of the target tokens, added up


class Model(Layer):
    """A layer whose `forward` gives a loss.

    Whatever depends on a batch as a whole must be scaled by the weight, so that N micro-batches
    give the gradient of one large batch.
    """

    class Config(Layer.Config):
        """A model's fields."""

    def forward(self, batch: Batch) -> Loss:
        """Returns the loss of a batch of [batch, seq] arrays."""
        raise NotImplementedError(type(self))

    def target_weight(self, batch: Batch) -> jax.Array:
        """Returns `forward(batch).weight` without running the model."""
        return batch["target_weights"].sum()

    @property
    def max_length(self) -> int | None:
        """The longest sequence that it can read, in tokens; None is any."""
        return None

    def flops_per_step(self, batch_shape: dict[str, tuple[int, ...]]) -> float | None:
        """Returns the floating point operations that one training step needs, without any
        recomputation, or None if unknown. Model FLOPs utilisation (MFU) is based on it."""
        return None
