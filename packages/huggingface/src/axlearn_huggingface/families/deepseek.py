"""DeepSeek-V3 (arXiv:2412.19437)."""

from __future__ import annotations

from axlearn_huggingface.families.rules import PRE_NORMS, decoder_mapping, experts, gated, norm
from axlearn_huggingface.weights import Rule

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
