"""Qwen2 (arXiv:2407.10671), Qwen2.5 (arXiv:2412.15115) and Qwen3 (arXiv:2505.09388)."""

from __future__ import annotations

from axlearn_huggingface.families.rules import (
    ATTENTION,
    PRE_NORMS,
    QK_NORM,
    QKV_BIAS,
    decoder_mapping,
    experts,
    gated,
)

QWEN2_WEIGHTS = decoder_mapping(*PRE_NORMS, *ATTENTION, QKV_BIAS, *gated("feed_forward", "mlp"))


QWEN3_WEIGHTS = decoder_mapping(*PRE_NORMS, *ATTENTION, *QK_NORM, *gated("feed_forward", "mlp"))


QWEN3_MOE_WEIGHTS = decoder_mapping(
    *PRE_NORMS,
    *ATTENTION,
    *QK_NORM,
    *experts(
        router="mlp.gate",
        gate="mlp.experts.{expert}.gate_proj",
        up="mlp.experts.{expert}.up_proj",
        down="mlp.experts.{expert}.down_proj",
    ),
)
