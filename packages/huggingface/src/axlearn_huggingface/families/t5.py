"""T5 (arXiv:1910.10683): a sequence from another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from axlearn_huggingface.configs import ConfigJson, Family, Field
from axlearn_huggingface.families.fields import VOCAB
from axlearn_huggingface.families.rules import norm
from axlearn_huggingface.weights import Rule, WeightMapping, within
from axlearn_layers import GatedFeedForward
from axlearn_layers.families import t5


def _self_attention(ours: str, theirs: str) -> tuple[Rule, ...]:
    return (
        Rule(
            {f"{ours}/qkv/(inner/)*projection/weight": "embed heads (1 + 1 + 1) dim"},
            {
                f"{theirs}.q.weight": "(heads dim) embed",
                f"{theirs}.k.weight": "(heads dim) embed",
                f"{theirs}.v.weight": "(heads dim) embed",
            },
        ),
        _output(ours, theirs),
    )


def _cross_attention(ours: str, theirs: str) -> tuple[Rule, ...]:
    return (
        Rule(
            {f"{ours}/query/weight": "embed heads dim"}, {f"{theirs}.q.weight": "(heads dim) embed"}
        ),
        Rule(
            {f"{ours}/key_value/weight": "embed (1 + 1) heads dim"},
            {
                f"{theirs}.k.weight": "(heads dim) embed",
                f"{theirs}.v.weight": "(heads dim) embed",
            },
        ),
        _output(ours, theirs),
    )


def _output(ours: str, theirs: str) -> Rule:
    return Rule(
        {f"{ours}/output/weight": "heads dim embed"}, {f"{theirs}.o.weight": "embed (heads dim)"}
    )


def _feed_forward(theirs: str) -> tuple[Rule, ...]:
    return (
        Rule(
            {"feed_forward/gate_up/weight": "embed (1 + 1) mlp"},
            {f"{theirs}.wi_0.weight": "mlp embed", f"{theirs}.wi_1.weight": "mlp embed"},
            optional=True,  # of version 1.1
        ),
        Rule(
            {"feed_forward/up/weight": "embed mlp"},
            {f"{theirs}.wi.weight": "mlp embed"},
            optional=True,
        ),
        Rule({"feed_forward/down/weight": "mlp embed"}, {f"{theirs}.wo.weight": "embed mlp"}),
    )


_ENCODER_LAYER = (
    norm("attention_norm", "layer.0.layer_norm"),
    *_self_attention("attention", "layer.0.SelfAttention"),
    norm("feed_forward_norm", "layer.1.layer_norm"),
    *_feed_forward("layer.1.DenseReluDense"),
)
_DECODER_READS_ITSELF = (
    norm("norm", "layer.0.layer_norm"),
    *_self_attention("inner", "layer.0.SelfAttention"),
)


_DECODER_READS_MEMORY = (
    norm("attention_norm", "layer.1.layer_norm"),
    *_cross_attention("attention", "layer.1.EncDecAttention"),
    norm("feed_forward_norm", "layer.2.layer_norm"),
    *_feed_forward("layer.2.DenseReluDense"),
)


def _side(name: str) -> tuple[Rule, ...]:
    bias = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return (
        Rule({f"{name}/stack/bias/weight": "heads bucket"}, {bias: "bucket heads"}),
        norm(f"{name}/norm", f"{name}.final_layer_norm"),
    )


T5_WEIGHTS = WeightMapping(
    rules=(
        Rule({"embedding/weight": "vocab embed"}, {"shared.weight": "vocab embed"}),
        *_side("encoder"),
        *within("encoder/stack/{layer}/", "encoder.block.{layer}.", *_ENCODER_LAYER),
        *_side("decoder"),
        *within("decoder/stack/{layer}/0/", "decoder.block.{layer}.", *_DECODER_READS_ITSELF),
        *within("decoder/stack/{layer}/1/", "decoder.block.{layer}.", *_DECODER_READS_MEMORY),
        Rule({"head/weight": "vocab embed"}, {"lm_head.weight": "vocab embed"}, optional=True),
    ),
    ties={
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
        "lm_head.weight": "shared.weight",
    },
    groups={"decoder/stack": 2},
)


_FIRST = "encoder.stack.inner.layers.0"


def _is_gated(model: Any) -> bool:
    return isinstance(model.encoder.stack.inner.layers[0].feed_forward, GatedFeedForward.Config)


@dataclass(frozen=True)
class _Tied:
    """Transformers 5 keeps in `scale_decoder_outputs` what was `tie_word_embeddings` before."""

    names: ClassVar[set[str]] = {"tie_word_embeddings", "scale_decoder_outputs"}

    def read(self, config: ConfigJson) -> dict[str, Any]:
        tied = config.get("tie_word_embeddings") is not False
        return {"tied": config.get("scale_decoder_outputs", tied)}

    def write(self, model: Any) -> dict[str, Any]:
        return {"tie_word_embeddings": model.head is None}


T5 = Family(
    model_type="t5",
    architecture="T5ForConditionalGeneration",
    build=t5,
    weights=T5_WEIGHTS,
    parts=(
        VOCAB,
        Field("d_model", "dim", "dim"),
        Field("num_layers", "num_layers", lambda model: len(model.encoder.stack.inner.layers)),
        Field(
            "num_decoder_layers",
            "num_decoder_layers",
            lambda model: len(model.decoder.stack.inner.layers) // 2,  # each is two of ours
            None,
            like="num_layers",
        ),
        Field("num_heads", "num_heads", f"{_FIRST}.attention.num_heads"),
        Field("d_kv", "head_dim", f"{_FIRST}.attention.head_dim", 64),
        Field("d_ff", "hidden_dim", f"{_FIRST}.feed_forward.hidden_dim"),
        Field(
            "relative_attention_num_buckets",
            "num_buckets",
            "encoder.stack.bias.num_buckets",
            32,
        ),
        Field(
            "relative_attention_max_distance",
            "max_distance",
            "encoder.stack.bias.max_distance",
            128,
        ),
        Field(
            "feed_forward_proj",
            "gated",
            _is_gated,
            "relu",
            values={"relu": False, "gated-gelu": True},
        ),
        Field("layer_norm_epsilon", "eps", "encoder.norm.eps", 1e-6),
        Field("decoder_start_token_id", "start_id", "start_id", 0),
        _Tied(),
    ),
    fixed={"is_decoder": (False, None)},
    ignored=frozenset({"is_gated_act", "dense_act_fn", "n_positions"}),  # which follow from others
)
