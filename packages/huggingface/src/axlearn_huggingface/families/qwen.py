"""Qwen2 (arXiv:2407.10671), Qwen2.5 (arXiv:2412.15115) and Qwen3 (arXiv:2505.09388)."""

from __future__ import annotations

from axlearn_huggingface.configs import Family, Field, Rotary
from axlearn_huggingface.configs.layer_types import LayerTypes
from axlearn_huggingface.families.fields import (
    DECODER,
    DIM,
    EVERY_TOKEN,
    FIRST,
    HEAD_DIM,
    HEADS,
    LAYERS,
    NO_BIAS,
    NO_HEAD_DIM,
    SILU,
    TIED,
    UNTIED,
    VOCAB,
)
from axlearn_huggingface.families.fields import norm as eps
from axlearn_huggingface.families.mixtral import EXPERTS_PER_TOKEN
from axlearn_huggingface.families.rules import (
    ATTENTION,
    PRE_NORMS,
    QK_NORM,
    QKV_BIAS,
    decoder_mapping,
    experts,
    gated,
)
from axlearn_layers.families import qwen2, qwen3, qwen3_moe

QWEN2_WEIGHTS = decoder_mapping(*PRE_NORMS, *ATTENTION, QKV_BIAS, *gated("feed_forward", "mlp"))


QWEN3_WEIGHTS = decoder_mapping(*PRE_NORMS, *ATTENTION, *QK_NORM, *gated("feed_forward", "mlp"))


QWEN3_MOE_WEIGHTS = decoder_mapping(
    *PRE_NORMS,
    *ATTENTION,
    *QK_NORM,
    *experts(
        router="mlp.gate",
        gate="mlp.experts.{expert}.gate_proj",
        up="mlp.experts.{expert}.up_proj",
        down="mlp.experts.{expert}.down_proj",
    ),
)


_NO_WINDOW = frozenset({"sliding_window", "max_window_layers"})
_HEAD_DIM = Field("head_dim", "head_dim", f"{FIRST}.attention.head_dim", 128)


QWEN2 = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    build=qwen2,
    weights=QWEN2_WEIGHTS,
    parts=(*DECODER, NO_HEAD_DIM, eps(1e-6), TIED, LayerTypes(), Rotary()),
    fixed={**SILU, **EVERY_TOKEN},
    ignored=_NO_WINDOW | {"use_mrope"},
)


QWEN3 = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    build=qwen3,
    weights=QWEN3_WEIGHTS,
    parts=(*DECODER, _HEAD_DIM, eps(1e-6), TIED, LayerTypes(), Rotary()),
    fixed={**SILU, **NO_BIAS, **EVERY_TOKEN},
    ignored=_NO_WINDOW,
)


QWEN3_MOE = Family(
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    build=qwen3_moe,
    weights=QWEN3_MOE_WEIGHTS,
    parts=(
        VOCAB,
        DIM,
        LAYERS,
        *HEADS,
        Field("moe_intermediate_size", "hidden_dim", f"{FIRST}.feed_forward.hidden_dim"),
        Field(
            "num_experts",
            "num_experts",
            f"{FIRST}.feed_forward.num_experts",
            128,
            alias="num_local_experts",
        ),
        EXPERTS_PER_TOKEN,
        Field("norm_topk_prob", "normalize", f"{FIRST}.feed_forward.router.normalize", False),
        HEAD_DIM,
        eps(1e-6),
        LayerTypes(),
        Rotary(),
    ),
    fixed={
        **SILU,
        **NO_BIAS,
        **EVERY_TOKEN,
        **UNTIED,
        "decoder_sparse_step": (1, None),
        "mlp_only_layers": ([], None),
    },
    ignored=_NO_WINDOW | {"intermediate_size"},
)
