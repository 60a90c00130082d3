"""GPT-2 (Radford et al. 2019, "Language models are unsupervised multitask learners")."""

from __future__ import annotations

from axlearn_huggingface.families.rules import bias_norm
from axlearn_huggingface.weights import Rule, WeightMapping, within

_LAYER = (
    *bias_norm("attention_norm", "ln_1"),
    Rule(
        {"attention/qkv/(inner/)*projection/weight": "embed heads (1 + 1 + 1) dim"},
        {"attn.c_attn.weight": "embed ((heads dim) + (heads dim) + (heads dim))"},
    ),
    Rule(
        {"attention/qkv/(inner/)*projection/bias": "heads (1 + 1 + 1) dim"},
        {"attn.c_attn.bias": "((heads dim) + (heads dim) + (heads dim))"},
    ),
    Rule(
        {"attention/output/weight": "heads dim embed"}, {"attn.c_proj.weight": "(heads dim) embed"}
    ),
    Rule({"attention/output/bias": "embed"}, {"attn.c_proj.bias": "embed"}),
    *bias_norm("feed_forward_norm", "ln_2"),
    Rule({"feed_forward/up/weight": "embed mlp"}, {"mlp.c_fc.weight": "embed mlp"}),
    Rule({"feed_forward/up/bias": "mlp"}, {"mlp.c_fc.bias": "mlp"}),
    Rule({"feed_forward/down/weight": "mlp embed"}, {"mlp.c_proj.weight": "mlp embed"}),
    Rule({"feed_forward/down/bias": "embed"}, {"mlp.c_proj.bias": "embed"}),
)


GPT2_WEIGHTS = WeightMapping(
    rules=(
        Rule({"embedding/weight": "vocab embed"}, {"wte.weight": "vocab embed"}),
        Rule({"positions/weight": "position embed"}, {"wpe.weight": "position embed"}),
        *bias_norm("norm", "ln_f"),
        *within("stack/{layer}/", "h.{layer}.", *_LAYER),
    ),
    prefix="transformer.",
    ties={"lm_head.weight": "wte.weight"},
    ignored=(r"h\.\d+\.attn\.(masked_)?bias",),  # causal masks
)
