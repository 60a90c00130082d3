"""Mixtral (arXiv:2401.04088)."""

from __future__ import annotations

from axlearn_huggingface.configs import Family, Field, Rotary
from axlearn_huggingface.families.fields import DECODER, FIRST, HEAD_DIM, SILU, UNTIED
from axlearn_huggingface.families.fields import norm as eps
from axlearn_huggingface.families.llama import WINDOW
from axlearn_huggingface.families.rules import ATTENTION, PRE_NORMS, decoder_mapping, experts
from axlearn_layers.families import mixtral

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


EXPERTS_PER_TOKEN = Field("num_experts_per_tok", "top_k", f"{FIRST}.feed_forward.top_k")


MIXTRAL = Family(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    build=mixtral,
    weights=MIXTRAL_WEIGHTS,
    parts=(
        *DECODER,
        HEAD_DIM,
        eps(1e-5),
        Field("num_local_experts", "num_experts", f"{FIRST}.feed_forward.num_experts"),
        EXPERTS_PER_TOKEN,
        WINDOW,
        Rotary(theta=1e6),
    ),
    fixed={**SILU, **UNTIED},
)
