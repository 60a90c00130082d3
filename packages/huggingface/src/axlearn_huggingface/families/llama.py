"""Llama (arXiv:2302.13971) to Llama 3 (arXiv:2407.21783), and Mistral 7B (arXiv:2310.06825)."""

from __future__ import annotations

from axlearn_huggingface.families.rules import ATTENTION, PRE_NORMS, decoder_mapping, gated

LLAMA_WEIGHTS = decoder_mapping(*PRE_NORMS, *ATTENTION, *gated("feed_forward", "mlp"))
