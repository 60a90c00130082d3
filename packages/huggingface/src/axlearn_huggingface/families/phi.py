"""Phi-3 (arXiv:2404.14219)."""

from __future__ import annotations

from axlearn_huggingface.families.rules import OUTPUT, PRE_NORMS, decoder_mapping
from axlearn_huggingface.weights import Rule

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
