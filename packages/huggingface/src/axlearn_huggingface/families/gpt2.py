"""GPT-2 (Radford et al. 2019, "Language models are unsupervised multitask learners")."""

from __future__ import annotations

from axlearn_huggingface.configs import Family, Field, Width
from axlearn_huggingface.families.fields import FIRST, VOCAB
from axlearn_huggingface.families.rules import bias_norm
from axlearn_huggingface.weights import Rule, WeightMapping, within
from axlearn_layers.families import gpt2

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


GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    build=gpt2,
    weights=GPT2_WEIGHTS,
    parts=(
        VOCAB,
        Field("n_embd", "dim", "dim"),
        Field("n_layer", "num_layers", lambda model: len(model.stack.layers)),
        Field("n_head", "num_heads", f"{FIRST}.attention.num_heads"),
        Field("n_positions", "max_length", "positions.max_length", 1024),
        Field("layer_norm_epsilon", "eps", "norm.eps", 1e-5),
        Width("n_inner", lambda config: 4 * config["n_embd"]),
    ),
    fixed={
        "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
        "scale_attn_weights": (True, None),
        "scale_attn_by_inverse_layer_idx": (False, None),
        "add_cross_attention": (False, None),
        "tie_word_embeddings": (True, None),
    },
    ignored=frozenset({"reorder_and_upcast_attn"}),
)
