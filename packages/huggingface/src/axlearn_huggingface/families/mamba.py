"""Mamba-2 (arXiv:2405.21060)."""

from __future__ import annotations

from typing import Any

from axlearn_huggingface.configs import Family, Field, Width
from axlearn_huggingface.families.fields import DIM, FIRST, LAYERS, TIED, VOCAB
from axlearn_huggingface.families.rules import HEAD, norm
from axlearn_huggingface.weights import Rule, WeightMapping, within
from axlearn_layers.families import mamba2

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


_INNER = f"{FIRST}.inner"


def _heads(model: Any) -> int:
    inner = model.stack.layers[0].inner
    return int(inner.expand * model.dim // inner.head_dim)


MAMBA2 = Family(
    model_type="mamba2",
    architecture="Mamba2ForCausalLM",
    build=mamba2,
    weights=MAMBA2_WEIGHTS,
    parts=(
        VOCAB,
        DIM,
        LAYERS,
        Field("state_size", "state_dim", f"{_INNER}.state_dim", 128),
        Field("head_dim", "head_dim", f"{_INNER}.head_dim", 64),
        Field("expand", "expand", f"{_INNER}.expand", 2),
        Width(
            "num_heads",
            lambda config: config.get("expand", 2) * config["hidden_size"] // config["head_dim"],
            at=_heads,
        ),
        Field("n_groups", "num_groups", f"{_INNER}.num_groups", 8),
        Field("conv_kernel", "conv_width", f"{_INNER}.conv.width", 4),
        Field("chunk_size", "chunk_size", f"{_INNER}.chunk_size", 256),
        Field("layer_norm_epsilon", "eps", "norm.eps", 1e-5),
        TIED,
    ),
    fixed={
        "hidden_act": ("silu", "swish"),
        "use_bias": (False, None),
        "use_conv_bias": (True, None),
        # The last is how transformers 5 writes the second.
        "time_step_limit": (None, [0.0, float("inf")], [0.0, {"__float__": "Infinity"}]),
    },
    ignored=frozenset({"norm_before_gate", "rms_norm"}),  # which are not read there
)
