"""OLMo 2 (arXiv:2501.00656)."""

from __future__ import annotations

from axlearn_huggingface.families.rules import ATTENTION, QK_NORM, decoder_mapping, gated, norm

OLMO2_WEIGHTS = decoder_mapping(
    norm("attention_norm", "post_attention_layernorm"),
    norm("feed_forward_norm", "post_feedforward_layernorm"),
    *ATTENTION,
    *QK_NORM,
    *gated("feed_forward", "mlp"),
)
