"""Mamba-2 (arXiv:2405.21060)."""

from __future__ import annotations

from axlearn_huggingface.families.rules import HEAD, norm
from axlearn_huggingface.weights import Rule, WeightMapping, within

# What is called gate and value here are z and x there, key and query are B and C.
_CHANNELS = "((heads dim) + (groups state) + (groups state))"

_LAYER = (
    norm("norm", "norm"),
    Rule(
        {
            "inner/gate_value/weight": "embed heads (1 + 1) dim",
            "inner/key_query/weight": "embed (1 + 1) groups state",
            "inner/step/weight": "embed heads",
        },
        {
            "mixer.in_proj.weight": "((heads dim) + (heads dim) + (groups state) + (groups state)"
            " + heads) embed"
        },
    ),
    Rule(
        {
            "inner/value_conv/weight": "width heads dim",
            "inner/key_query_conv/weight": "width (1 + 1) groups state",
        },
        {"mixer.conv1d.weight": f"{_CHANNELS} 1 width"},
    ),
    Rule(
        {
            "inner/value_conv/bias": "heads dim",
            "inner/key_query_conv/bias": "(1 + 1) groups state",
        },
        {"mixer.conv1d.bias": _CHANNELS},
    ),
    Rule({"inner/a_log": "heads"}, {"mixer.A_log": "heads"}),
    Rule({"inner/dt_bias": "heads"}, {"mixer.dt_bias": "heads"}),
    Rule({"inner/d": "heads"}, {"mixer.D": "heads"}),
    Rule({"inner/scale": "heads dim"}, {"mixer.norm.weight": "(heads dim)"}),
    Rule(
        {"inner/output/weight": "heads dim embed"}, {"mixer.out_proj.weight": "embed (heads dim)"}
    ),
)


MAMBA2_WEIGHTS = WeightMapping(
    rules=(
        Rule({"embedding/weight": "vocab embed"}, {"backbone.embeddings.weight": "vocab embed"}),
        norm("norm", "backbone.norm_f"),
        HEAD,
        *within("stack/{layer}/", "backbone.layers.{layer}.", *_LAYER),
    ),
    ties={"lm_head.weight": "backbone.embeddings.weight"},
)
