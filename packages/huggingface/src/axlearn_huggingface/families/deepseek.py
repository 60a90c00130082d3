"""DeepSeek-V3 (arXiv:2412.19437)."""

from __future__ import annotations

from typing import Any

from axlearn_huggingface.configs import Family, Field, LatentRotary, Width
from axlearn_huggingface.families.fields import (
    DIM,
    FIRST,
    HIDDEN,
    LAYERS,
    NO_BIAS,
    QUERY_HEADS,
    SILU,
    UNTIED,
    VOCAB,
)
from axlearn_huggingface.families.fields import norm as eps
from axlearn_huggingface.families.rules import PRE_NORMS, decoder_mapping, experts, gated, norm
from axlearn_huggingface.weights import Rule
from axlearn_layers import MixtureOfExperts
from axlearn_layers.families import deepseek_v3

DEEPSEEK_V3_WEIGHTS = decoder_mapping(
    *PRE_NORMS,
    Rule(
        {"attention/query_down/weight": "embed query_rank"},
        {"self_attn.q_a_proj.weight": "query_rank embed"},
    ),
    norm("attention/query_norm", "self_attn.q_a_layernorm"),
    norm("attention/kv_norm", "self_attn.kv_a_layernorm"),
    # One rule, since only together do the shapes tell a head's content from its rotary part. Theirs
    # turns neighbours, ours halves.
    Rule(
        {
            "attention/query/weight": "query_rank heads (content + (2 half))",
            "attention/kv_down/weight": "embed (rank + (2 half))",
            "attention/kv_up/weight": "rank heads (content + value)",
            "attention/output/weight": "heads value embed",
        },
        {
            "self_attn.q_b_proj.weight": "(heads (content + (half 2))) query_rank",
            "self_attn.kv_a_proj_with_mqa.weight": "(rank + (half 2)) embed",
            "self_attn.kv_b_proj.weight": "(heads (content + value)) rank",
            "self_attn.o_proj.weight": "embed (heads value)",
        },
    ),
    *gated("feed_forward", "mlp"),
    *gated("feed_forward/shared", "mlp.shared_experts"),
    *experts(
        router="mlp.gate",
        gate="mlp.experts.{expert}.gate_proj",
        up="mlp.experts.{expert}.up_proj",
        down="mlp.experts.{expert}.down_proj",
    ),
    Rule({"feed_forward/router/bias": "expert"}, {"mlp.gate.e_score_correction_bias": "expert"}),
    ignored=(r"model\.layers\.61\..*",),  # the published file's module for a second prediction
)


_LAST = "stack.layers.-1.feed_forward"
_ATTENTION = f"{FIRST}.attention"


def _dense_layers(model: Any) -> int:
    sparse = [isinstance(x.feed_forward, MixtureOfExperts.Config) for x in model.stack.layers]
    return sparse.index(True)


DEEPSEEK_V3 = Family(
    model_type="deepseek_v3",
    architecture="DeepseekV3ForCausalLM",
    build=deepseek_v3,
    weights=DEEPSEEK_V3_WEIGHTS,
    parts=(
        VOCAB,
        DIM,
        LAYERS,
        QUERY_HEADS,
        Width(
            "num_key_value_heads",
            lambda config: config["num_attention_heads"],
            at=f"{_ATTENTION}.num_heads",
        ),
        HIDDEN,
        Field("first_k_dense_replace", "num_dense_layers", _dense_layers),
        Field("moe_intermediate_size", "expert_hidden_dim", f"{_LAST}.hidden_dim"),
        Field("n_routed_experts", "num_experts", f"{_LAST}.num_experts"),
        Field("num_experts_per_tok", "top_k", f"{_LAST}.top_k"),
        Field("n_group", "num_groups", f"{_LAST}.router.num_groups"),
        Field("topk_group", "top_groups", f"{_LAST}.router.top_groups"),
        Field("routed_scaling_factor", "router_scale", f"{_LAST}.router.scale", 2.5),
        Field("q_lora_rank", "query_rank", f"{_ATTENTION}.query_rank"),
        Field("kv_lora_rank", "kv_rank", f"{_ATTENTION}.kv_rank"),
        Field("qk_nope_head_dim", "content_dim", f"{_ATTENTION}.content_dim"),
        Field("qk_rope_head_dim", "rotary_dim", f"{_ATTENTION}.rotary_dim"),
        Field("v_head_dim", "value_dim", f"{_ATTENTION}.value_dim"),
        eps(1e-6),
        LatentRotary(),
    ),
    fixed={
        **SILU,
        **NO_BIAS,
        **UNTIED,
        "n_shared_experts": (1, None),
        "norm_topk_prob": (True, None),
        "rope_interleave": (True, None),
        "moe_layer_freq": (1, None),
        "scoring_func": ("sigmoid", None),
        "topk_method": ("noaux_tc", None),
    },
    ignored=frozenset({"head_dim", "qk_head_dim"}),
)
