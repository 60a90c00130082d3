"""Multi-token prediction: a causal language model that also learns to look further ahead."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.kernels import Targets
from axlearn_core.module import Layer, no_context
from axlearn_core.module.context import Tree
from axlearn_core.training.model import Batch, Loss, Model
from axlearn_layers.block import TransformerBlock
from axlearn_layers.causal_lm import CausalLM
from axlearn_layers.flops import flops_per_token
from axlearn_layers.linear import Linear, Projection
from axlearn_layers.loss import LinearCrossEntropy, TokenLoss
from axlearn_layers.norms import Norm, RMSNorm
from axlearn_layers.sequence import SequenceInfo, SequenceLayer
from axlearn_layers.targets import targets_of
from axlearn_layers.token_model import with_auxiliary_losses


class NextDepth(Layer):
    """h' = layer(M [norm(h); norm(e)]): looks one token further (arXiv:2412.19437, section 2.2).

    h are the vectors of the depth before, e the embeddings of the tokens that they predicted.
    """

    class Config(Layer.Config):
        dim: int = REQUIRED  # set by the model
        norm: Norm.Config = RMSNorm.default_config()  # of all three norms
        projection: Projection.Config = Linear.default_config()  # M, reads [h, e] as [2, dim]
        layer: SequenceLayer.Config = TransformerBlock.default_config()
        loss: TokenLoss.Config = LinearCrossEntropy.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        dim = cfg.dim
        self.hidden_norm: Norm = self.add_child("hidden_norm", cfg.norm.clone(input_dim=dim))
        self.embedding_norm: Norm = self.add_child("embedding_norm", cfg.norm.clone(input_dim=dim))
        self.projection: Projection = self.add_child(
            "projection",
            cfg.projection.set(
                input_dim=(2, dim), output_dim=dim, input_axes=(None, "embed"), output_axes=None
            ),
        )
        self.layer: SequenceLayer = self.add_child("layer", cfg.layer.set(input_dim=dim))
        self.output_norm: Norm = self.add_child("output_norm", cfg.norm.clone(input_dim=dim))
        self.loss: TokenLoss = self.add_child("loss", cfg.loss)

    def forward(self, hidden: jax.Array, embedded: jax.Array, info: SequenceInfo) -> jax.Array:
        """[batch, seq, dim] twice -> [batch, seq, dim], before the norm of the output."""
        both = [self.hidden_norm.forward(hidden), self.embedding_norm.forward(embedded)]
        return self.layer.forward(self.projection.forward(jnp.stack(both, axis=-2)), info)

    def head_loss(
        self,
        hidden: jax.Array,
        table: jax.Array,
        targets: Targets,
        weights: jax.Array,
        logit_cap: float | None,
    ) -> jax.Array:
        """Returns the loss of what `forward` returned; see `TokenLoss`."""
        normed = self.output_norm.forward(hidden)
        return self.loss.forward(normed, table, targets, weights, logit_cap)


class MultiTokenLM(Model):
    """total = lm's + loss_weight / D * sum over k = 1..D of depth k's (arXiv:2412.19437, 2.2).

    Token i's vector of depth k predicts token i + k + 1, having read the tokens up to i + k; depth
    0 is the causal language model, what its head reads. Depths follow each other; each has its own
    parameters, but embedding and head are the model's. Targets beyond the end of a row or of a
    packed document have weight 0, and depths are divided by the weight of depth 0, as in the paper.

    Everything but training is the model's: logits, cache, decoding.
    """

    class Config(Model.Config):
        lm: CausalLM.Config = CausalLM.default_config()
        num_depths: int = 1  # D
        depth: NextDepth.Config = NextDepth.default_config()
        loss_weight: float = 0.3  # DeepSeek-V3's for most of its training, 0.1 at the end

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.num_depths < 1:
            raise ConfigError(
                f"num_depths (={cfg.num_depths}) must be at least 1; without depths, take the "
                "CausalLM itself"
            )
        self.lm: CausalLM = self.add_child("lm", cfg.lm)
        self.depths: list[NextDepth] = [
            self.add_child(f"depth{k}", cfg.depth.clone(dim=cfg.lm.dim))
            for k in range(1, cfg.num_depths + 1)
        ]

    @property
    def max_length(self) -> int | None:
        return self.lm.max_length

    def forward(self, batch: Batch) -> Loss:
        """Returns the training loss in training, and the causal language model's at evaluation."""
        weights = batch["target_weights"]
        hidden = self.lm.hidden(batch)
        total = self.lm.token_loss(hidden, batch)
        if self.is_training:
            total += self.config.loss_weight / self.config.num_depths * self._further(hidden, batch)
        return Loss(with_auxiliary_losses(self, total, weights), weights.sum())

    def logits(self, batch: Batch) -> jax.Array:
        """Returns [batch, seq, vocab_size] float32 scores of each next token."""
        return self.lm.logits(batch)

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str = "float32") -> Tree:
        """See `CausalLM.init_cache`."""
        return self.lm.init_cache(batch_size, max_length, dtype)

    def extend(
        self,
        input_ids: jax.Array,
        cache: Tree,
        lengths: jax.Array | None = None,
        adapter_ids: jax.Array | None = None,
        last_only: bool = False,
    ) -> tuple[jax.Array, Tree]:
        """See `CausalLM.extend`."""
        return self.lm.extend(input_ids, cache, lengths, adapter_ids, last_only)

    @no_context
    def flops_per_step(self, batch_shape: dict[str, tuple[int, ...]]) -> float:
        """Adds the depths, each with a pass of the head."""
        batch, seq = batch_shape["input_ids"]
        head = 2.0 * self.lm.config.dim * self.lm.config.vocab_size
        depths = sum(flops_per_token(depth, seq) + head for depth in self.depths)
        return self.lm.flops_per_step(batch_shape) + 3 * batch * seq * depths

    def _further(self, hidden: jax.Array, batch: Batch) -> jax.Array:
        """Returns the sum of the losses of all depths."""
        segments = batch.get("segment_ids")
        info = SequenceInfo(batch.get("positions"), segments)
        table, logit_cap = self.lm.head.table(), self.lm.config.logit_cap
        total = jnp.zeros((), jnp.float32)
        for k, depth in enumerate(self.depths, start=1):
            embedded = self.lm.embedding.forward(_ahead(batch["input_ids"], k))
            hidden = depth.forward(hidden, embedded, info)
            weights = _ahead(batch["target_weights"], k)
            if segments is not None:
                weights = weights * (_ahead(segments, k) == segments)
            targets = jax.tree.map(lambda x, k=k: _ahead(x, k), targets_of(batch))
            total += depth.head_loss(hidden, table, targets, weights, logit_cap)
        return total


def _ahead(x: jax.Array, k: int) -> jax.Array:
    """Returns what stands k places later in each row of [batch, seq, ...], 0 beyond its end."""
    return jnp.pad(x[:, k:], ((0, 0), (0, k), *[(0, 0)] * (x.ndim - 2)))
