"""What all kinds of attention have in common: heads, a mask, scores, an output projection."""

from __future__ import annotations

from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.kernels import Mask, causal, same_segment
from axlearn_core.module import no_context
from axlearn_layers.linear import Linear, Projection
from axlearn_layers.sequence import SequenceInfo, SequenceLayer


class AttentionLayer(SequenceLayer):
    """Queries read values by the likeness of keys. Subclasses say where all three come from.

    They add the projection of what was read by `add_output`, give `**self.within_rows(info)` to the
    attention op, and count `scores_flops`.
    """

    class Config(SequenceLayer.Config):
        num_heads: int = REQUIRED
        mask: Mask = causal() & same_segment()
        scale: float | None = None  # of the scores; None is one over the root of a query's width
        logit_cap: float | None = None  # scores become cap * tanh(scores / cap); Gemma 2 takes 50
        output: Projection.Config = Linear.default_config()
        kernel: str | None = None  # forces an implementation; None takes the best that is there

    @no_context
    def add_output(self, value_dim: int) -> Projection:
        """Adds the projection of all heads' values to the layer's width."""
        cfg = self.config
        output: Projection = self.add_child(
            "output",
            cfg.output.set(
                input_dim=(cfg.num_heads, value_dim),
                output_dim=cfg.input_dim,
                input_axes=("heads", "head_dim"),
                output_axes="embed",
            ),
        )
        return output

    @no_context
    def within_rows(self, info: SequenceInfo) -> dict[str, Any]:
        """Returns what the attention op is told of mask, segments and places in self-attention."""
        mask, segments, positions = self.config.mask, info.segment_ids, None
        if segments is None:
            mask = mask.within_segment
        elif not mask.is_relative:
            positions = info.positions  # a document's own places, wherever in the row it lies
        return {
            "mask": mask,
            "query_positions": positions,
            "key_positions": positions,
            "query_segments": segments,
            "key_segments": segments,
        }

    @no_context
    def scores_flops(self, seq_length: int, query_dim: int, value_dim: int) -> float:
        """Of a token's scores and their product with the values; all keys count, masked or not."""
        return 2.0 * seq_length * self.config.num_heads * (query_dim + value_dim)


def head_sizes(
    input_dim: int, num_heads: int, num_kv_heads: int | None, head_dim: int | None
) -> tuple[int, int]:
    """Returns the number of key and value heads, and the dimensions of a head.

    Raises:
        ConfigError: if the heads do not divide what they share.
    """
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if num_heads % kv_heads:
        raise ConfigError(f"num_kv_heads (={kv_heads}) must divide num_heads (={num_heads})")
    if head_dim is None and input_dim % num_heads:
        raise ConfigError(
            f"num_heads (={num_heads}) must divide input_dim (={input_dim}); or set head_dim"
        )
    return kv_heads, input_dim // num_heads if head_dim is None else head_dim


def name_for_remat(x: jax.Array, name: str) -> jax.Array:
    """Names an activation of attention, so that `Remat` can say whether to keep it."""
    named: jax.Array = checkpoint_name(x, f"attention_{name}")
    return named
