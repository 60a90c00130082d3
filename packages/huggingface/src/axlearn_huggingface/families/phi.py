"""Phi-3 (arXiv:2404.14219)."""

from __future__ import annotations

from axlearn_huggingface.configs import Family, Rotary
from axlearn_huggingface.families.fields import DECODER, NO_BIAS, NO_HEAD_DIM, SILU, TIED
from axlearn_huggingface.families.fields import norm as eps
from axlearn_huggingface.families.llama import WINDOW
from axlearn_huggingface.families.rules import OUTPUT, PRE_NORMS, decoder_mapping
from axlearn_huggingface.weights import Rule
from axlearn_layers.families import phi3

PHI3_WEIGHTS = decoder_mapping(
    *PRE_NORMS,
    Rule(
        {"attention/qkv/(inner/)*projection/weight": "embed kv (group + 1 + 1) dim"},
        {"self_attn.qkv_proj.weight": "((kv group dim) + (kv dim) + (kv dim)) embed"},
    ),
    OUTPUT,
    Rule(
        {"feed_forward/gate_up/weight": "embed (1 + 1) mlp"},
        {"mlp.gate_up_proj.weight": "(mlp + mlp) embed"},
    ),
    Rule({"feed_forward/down/weight": "mlp embed"}, {"mlp.down_proj.weight": "embed mlp"}),
)


PHI3 = Family(
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    build=phi3,
    weights=PHI3_WEIGHTS,
    parts=(
        *DECODER,
        NO_HEAD_DIM,
        eps(1e-5),
        TIED,
        WINDOW,
        Rotary(kinds=("default",), fraction=True),
    ),
    fixed={**SILU, **NO_BIAS},
)
