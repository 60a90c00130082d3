"""Llama (arXiv:2302.13971) to Llama 3 (arXiv:2407.21783), and Mistral 7B (arXiv:2310.06825)."""

from __future__ import annotations

from axlearn_huggingface.configs import Family, Field, Rotary
from axlearn_huggingface.configs.fields import window_of
from axlearn_huggingface.families.fields import DECODER, HEAD_DIM, NO_BIAS, SILU, TIED
from axlearn_huggingface.families.fields import norm as eps
from axlearn_huggingface.families.rules import ATTENTION, PRE_NORMS, decoder_mapping, gated
from axlearn_layers.families import llama

LLAMA_WEIGHTS = decoder_mapping(*PRE_NORMS, *ATTENTION, *gated("feed_forward", "mlp"))


LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    build=llama,
    weights=LLAMA_WEIGHTS,
    parts=(*DECODER, HEAD_DIM, eps(1e-6), TIED, Rotary()),
    fixed={**SILU, **NO_BIAS, "mlp_bias": (False, None)},
    ignored=frozenset({"is_llama_config"}),
)


WINDOW = Field(
    "sliding_window",
    "window",
    lambda model: window_of(model.stack.layers[0].attention.mask),
    None,
)


MISTRAL = Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    build=llama,
    weights=LLAMA_WEIGHTS,
    parts=(*DECODER, HEAD_DIM, eps(1e-6), TIED, WINDOW, Rotary()),
    fixed=SILU,
)
