"""Gemma 2 (arXiv:2408.00118) and the text model of Gemma 3 (arXiv:2503.19786)."""

from __future__ import annotations

from typing import Any

from axlearn_huggingface.configs import Family, Field, LocalAndGlobalRotary, Rotary
from axlearn_huggingface.configs.fields import window_of
from axlearn_huggingface.configs.layer_types import LayerTypes
from axlearn_huggingface.families.fields import DECODER, FIRST, NO_BIAS
from axlearn_huggingface.families.fields import norm as eps
from axlearn_huggingface.families.rules import ATTENTION, QK_NORM, decoder_mapping, gated, norm
from axlearn_layers.families import gemma2, gemma3

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


def window(model: Any) -> int | None:
    """Returns how many tokens a query of the first layer sees."""
    return window_of(model.stack.layers[0].attention.mask)


_PARTS = (
    *DECODER,
    Field("head_dim", "head_dim", f"{FIRST}.attention.head_dim", 256),
    Field(
        "query_pre_attn_scalar",
        "score_dim",
        lambda model: round(model.stack.layers[0].attention.scale ** -2),
        256,
    ),
    Field(
        "sliding_window", "window", lambda model: window_of(model.stack.layers[0].attention.mask)
    ),
    eps(1e-6),
)
_FIXED = {
    **NO_BIAS,
    "hidden_activation": ("gelu_pytorch_tanh", None),
    "tie_word_embeddings": (True, None),
    "use_bidirectional_attention": (False, None),
}


GEMMA2 = Family(
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    build=gemma2,
    weights=GEMMA2_WEIGHTS,
    parts=(
        *_PARTS,
        Field("attn_logit_softcapping", "attention_cap", f"{FIRST}.attention.logit_cap", 50.0),
        Field("final_logit_softcapping", "logit_cap", "logit_cap", 30.0),
        LayerTypes(("sliding_attention", "full_attention")),
        Rotary(),
    ),
    fixed=_FIXED,
    ignored=frozenset({"hidden_act"}),  # which is not read there
)


GEMMA3 = Family(
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    build=gemma3,
    weights=GEMMA3_WEIGHTS,
    parts=(*_PARTS, LocalAndGlobalRotary()),
    fixed={
        **_FIXED,
        "attn_logit_softcapping": (None,),
        "final_logit_softcapping": (None,),
    },
    ignored=frozenset({"hidden_act"}),
)
