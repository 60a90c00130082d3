"""Rules that the weight mappings of several families share.

The layers' are relative to a layer, `stack/{layer}/` here and `model.layers.{layer}.` there.
"""

from __future__ import annotations

from axlearn_huggingface.weights import Rule, WeightMapping, within


def decoder_mapping(*layer: Rule, ignored: tuple[str, ...] = ()) -> WeightMapping:
    """The mapping of a decoder with the names that most have outside of their layers."""
    return WeightMapping(
        rules=(
            Rule({"embedding/weight": "vocab embed"}, {"model.embed_tokens.weight": "vocab embed"}),
            norm("norm", "model.norm"),
            HEAD,
            *within("stack/{layer}/", "model.layers.{layer}.", *layer),
        ),
        ties={"lm_head.weight": "model.embed_tokens.weight"},
        # Rotary frequencies are in old files.
        ignored=(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", *ignored),
    )


def norm(ours: str, theirs: str) -> Rule:
    """The gain of an RMS norm."""
    return Rule({f"{ours}/scale": "embed"}, {f"{theirs}.weight": "embed"})


def bias_norm(ours: str, theirs: str, *, optional: bool = False) -> tuple[Rule, Rule]:
    """The gain and the bias of a layer norm."""
    return (
        Rule({f"{ours}/scale": "embed"}, {f"{theirs}.weight": "embed"}, optional=optional),
        Rule({f"{ours}/bias": "embed"}, {f"{theirs}.bias": "embed"}, optional=optional),
    )


def biased(ours: str, theirs: str, *, optional: bool = False) -> tuple[Rule, Rule]:
    """A linear map and its bias."""
    return (
        Rule({f"{ours}/weight": "inner outer"}, {f"{theirs}.weight": "outer inner"}, optional),
        Rule({f"{ours}/bias": "outer"}, {f"{theirs}.bias": "outer"}, optional),
    )


def gated(ours: str, theirs: str) -> tuple[Rule, ...]:
    """A gated feed-forward layer."""
    return (
        Rule(
            {f"{ours}/gate_up/weight": "embed (1 + 1) mlp"},
            {f"{theirs}.gate_proj.weight": "mlp embed", f"{theirs}.up_proj.weight": "mlp embed"},
        ),
        Rule({f"{ours}/down/weight": "mlp embed"}, {f"{theirs}.down_proj.weight": "embed mlp"}),
    )


def experts(router: str, gate: str, up: str, down: str) -> tuple[Rule, ...]:
    """A mixture of gated experts, `{expert}` being each of them."""
    return (
        Rule(
            {"feed_forward/router/projection/weight": "embed expert"},
            {f"{router}.weight": "expert embed"},
        ),
        Rule(
            {"feed_forward/experts/gate_up": "expert embed (1 + 1) mlp"},
            {f"{gate}.weight": "mlp embed", f"{up}.weight": "mlp embed"},
        ),
        Rule({"feed_forward/experts/down": "expert mlp embed"}, {f"{down}.weight": "embed mlp"}),
    )


HEAD = Rule(
    {"head/weight": "vocab embed"},
    {"lm_head.weight": "vocab embed"},
    optional=True,  # tied models have none
)

OUTPUT = Rule(
    {"attention/output/weight": "heads dim embed"}, {"self_attn.o_proj.weight": "embed (heads dim)"}
)

ATTENTION = (
    Rule(
        {"attention/qkv/(inner/)*projection/weight": "embed kv (group + 1 + 1) dim"},
        {
            "self_attn.q_proj.weight": "(kv group dim) embed",
            "self_attn.k_proj.weight": "(kv dim) embed",
            "self_attn.v_proj.weight": "(kv dim) embed",
        },
    ),
    OUTPUT,
)

QKV_BIAS = Rule(
    {"attention/qkv/(inner/)*projection/bias": "kv (group + 1 + 1) dim"},
    {
        "self_attn.q_proj.bias": "(kv group dim)",
        "self_attn.k_proj.bias": "(kv dim)",
        "self_attn.v_proj.bias": "(kv dim)",
    },
)

QK_NORM = (
    norm("attention/qkv/(inner/)*query_norm", "self_attn.q_norm"),
    norm("attention/qkv/(inner/)*key_norm", "self_attn.k_norm"),
)

PRE_NORMS = (
    norm("attention_norm", "input_layernorm"),
    norm("feed_forward_norm", "post_attention_layernorm"),
)
