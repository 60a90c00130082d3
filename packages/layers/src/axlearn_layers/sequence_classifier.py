"""Classes and scores of whole sequences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import Layer, no_context
from axlearn_core.training.model import Batch, Loss
from axlearn_layers.dropout import Dropout
from axlearn_layers.flops import flops_per_token
from axlearn_layers.head_transform import HeadTransform
from axlearn_layers.linear import Linear, Projection
from axlearn_layers.pooling import LastToken, Pooling
from axlearn_layers.sequence_loss import ClassCrossEntropy, SequenceLoss
from axlearn_layers.token_model import TokenModel, share_out, with_auxiliary_losses


class ClassificationHead(Layer):
    """scores = dropout(transform(x)) W + b, of one vector per sequence."""

    class Config(Layer.Config):
        # Set by the model.
        dim: int = REQUIRED
        num_classes: int = REQUIRED
        transform: HeadTransform.Config | None = None  # BERT's pooler
        dropout: Dropout.Config = Dropout.default_config()
        output: Projection.Config = Linear.default_config().set(bias=True)

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.transform: HeadTransform | None = None
        if cfg.transform is not None:
            self.transform = self.add_child("transform", cfg.transform.set(dim=cfg.dim))
        self.dropout: Dropout = self.add_child("dropout", cfg.dropout)
        self.output: Projection = self.add_child(
            "output",
            cfg.output.set(
                input_dim=cfg.dim, output_dim=cfg.num_classes, input_axes="embed", output_axes=None
            ),
        )

    def forward(self, x: jax.Array) -> jax.Array:
        """[..., dim] -> [..., num_classes] float32."""
        if self.transform is not None:
            x = self.transform.forward(x)
        return self.output.forward(self.dropout.forward(x)).astype(jnp.float32)


class SequenceClassifier(TokenModel):
    """Scores whole sequences: classifier(pooling(hidden)), for classes, numbers or preferences.

    Any stack will do. Batches hold `targets` and `target_weights` too, [batch], one sequence in
    each row; loss and metrics count sequences, not tokens. See the losses for what targets are.

    With `packed`, a row holds several sequences, as segments 1 to `packed` of segment_ids, and
    both are [batch, packed]. A reward model has `num_classes=1`, `packed=2` (the better answer and
    the worse) and the loss `Preference`, whose targets and weights are [batch].
    """

    class Config(TokenModel.Config):
        num_classes: int = REQUIRED  # scores of each sequence
        packed: int | None = None  # sequences of a row; None is one, all of the row but padding
        pooling: Pooling.Config = LastToken.default_config()
        classifier: ClassificationHead.Config = ClassificationHead.default_config()
        loss: SequenceLoss.Config = ClassCrossEntropy.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.packed is not None and cfg.packed < 1:
            raise ConfigError(f"packed (={cfg.packed}) must be at least 1, or None")
        self.pooling: Pooling = self.add_child("pooling", cfg.pooling)
        self.classifier: ClassificationHead = self.add_child(
            "classifier", cfg.classifier.set(dim=cfg.dim, num_classes=cfg.num_classes)
        )
        self.loss: SequenceLoss = self.add_child(
            "loss", cfg.loss.set(num_classes=cfg.num_classes, packed=cfg.packed)
        )

    def forward(self, batch: Batch) -> Loss:
        weights = batch["target_weights"]
        total = self.loss.forward(self.logits(batch), batch["targets"], weights)
        shares = share_out(weights, self._member(batch).any(axis=1))
        return Loss(with_auxiliary_losses(self, total, shares), weights.sum())

    def logits(self, batch: Batch) -> jax.Array:
        """Returns [batch, num_classes] float32, or [batch, packed, num_classes]."""
        scores = self.classifier.forward(
            self.pooling.forward(self.hidden(batch), self._member(batch))
        )
        return scores[:, 0] if self.config.packed is None else scores

    @no_context
    def flops_per_step(self, batch_shape: dict[str, tuple[int, ...]]) -> float:
        """Forward and backward: three times the forward pass."""
        batch, seq = batch_shape["input_ids"]
        head = (self.config.packed or 1) * flops_per_token(self.classifier, seq)
        return 3 * batch * (seq * flops_per_token(self.stack, seq) + head)

    def _member(self, batch: Batch) -> jax.Array:
        """Returns [batch, sequences, seq] bool, which tokens belong to a sequence."""
        packed, segments = self.config.packed, batch.get("segment_ids")
        if packed is not None:
            if segments is None:
                raise ValueError(
                    f"{self.path}: packed (={packed}) sequences are told apart by segment_ids, "
                    "which the batch does not hold; add them, or set packed to None"
                )
            return segments[:, None] == jnp.arange(1, packed + 1)[:, None]
        if segments is None:
            return jnp.ones((batch["input_ids"].shape[0], 1, batch["input_ids"].shape[1]), bool)
        return segments[:, None] != 0
