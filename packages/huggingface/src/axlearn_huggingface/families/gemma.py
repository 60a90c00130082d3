"""Gemma 2 (arXiv:2408.00118) and the text model of Gemma 3 (arXiv:2503.19786)."""

from __future__ import annotations

from axlearn_huggingface.families.rules import ATTENTION, QK_NORM, decoder_mapping, gated, norm

_LAYER = (
    norm("attention_norm", "input_layernorm"),
    norm("attention_output_norm", "post_attention_layernorm"),
    norm("feed_forward_norm", "pre_feedforward_layernorm"),
    norm("feed_forward_output_norm", "post_feedforward_layernorm"),
    *ATTENTION,
    *gated("feed_forward", "mlp"),
)


GEMMA2_WEIGHTS = decoder_mapping(*_LAYER)


GEMMA3_WEIGHTS = decoder_mapping(*_LAYER, *QK_NORM)
