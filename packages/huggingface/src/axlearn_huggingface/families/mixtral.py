"""Mixtral (arXiv:2401.04088)."""

from __future__ import annotations

from axlearn_huggingface.families.rules import ATTENTION, PRE_NORMS, decoder_mapping, experts

MIXTRAL_WEIGHTS = decoder_mapping(
    *PRE_NORMS,
    *ATTENTION,
    *experts(
        router="block_sparse_moe.gate",
        gate="block_sparse_moe.experts.{expert}.w1",
        up="block_sparse_moe.experts.{expert}.w3",
        down="block_sparse_moe.experts.{expert}.w2",
    ),
)
