"""OLMo 2 (arXiv:2501.00656)."""

from __future__ import annotations

from axlearn_huggingface.configs import Family, Rotary
from axlearn_huggingface.families.fields import DECODER, NO_BIAS, NO_HEAD_DIM, SILU, UNTIED
from axlearn_huggingface.families.fields import norm as eps
from axlearn_huggingface.families.rules import ATTENTION, QK_NORM, decoder_mapping, gated, norm
from axlearn_layers.families import olmo2

OLMO2_WEIGHTS = decoder_mapping(
    norm("attention_norm", "post_attention_layernorm"),
    norm("feed_forward_norm", "post_feedforward_layernorm"),
    *ATTENTION,
    *QK_NORM,
    *gated("feed_forward", "mlp"),
)


OLMO2 = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    build=olmo2,
    weights=OLMO2_WEIGHTS,
    parts=(*DECODER, NO_HEAD_DIM, eps(1e-5), Rotary(kinds=("default",))),
    fixed={**SILU, **NO_BIAS, **UNTIED},
)
