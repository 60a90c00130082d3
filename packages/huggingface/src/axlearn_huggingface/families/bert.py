"""BERT (arXiv:1810.04805): a masked language model, and a classifier of sequences."""

from __future__ import annotations

from axlearn_huggingface.configs import Count, Family, Field
from axlearn_huggingface.families.fields import DIM, FIRST, HIDDEN, LAYERS, QUERY_HEADS, VOCAB
from axlearn_huggingface.families.rules import bias_norm, biased
from axlearn_huggingface.weights import Rule, WeightMapping, within
from axlearn_layers.families import bert, bert_classifier

_LAYER = (
    Rule(
        {"attention/qkv/(inner/)*projection/weight": "embed heads (1 + 1 + 1) dim"},
        {
            "attention.self.query.weight": "(heads dim) embed",
            "attention.self.key.weight": "(heads dim) embed",
            "attention.self.value.weight": "(heads dim) embed",
        },
    ),
    Rule(
        {"attention/qkv/(inner/)*projection/bias": "heads (1 + 1 + 1) dim"},
        {
            "attention.self.query.bias": "(heads dim)",
            "attention.self.key.bias": "(heads dim)",
            "attention.self.value.bias": "(heads dim)",
        },
    ),
    Rule(
        {"attention/output/weight": "heads dim embed"},
        {"attention.output.dense.weight": "embed (heads dim)"},
    ),
    Rule({"attention/output/bias": "embed"}, {"attention.output.dense.bias": "embed"}),
    *bias_norm("attention_norm", "attention.output.LayerNorm"),
    *biased("feed_forward/up", "intermediate.dense"),
    *biased("feed_forward/down", "output.dense"),
    *bias_norm("feed_forward_norm", "output.LayerNorm"),
)


BERT_WEIGHTS = WeightMapping(
    rules=(
        Rule(
            {"embedding/weight": "vocab embed"},
            {"bert.embeddings.word_embeddings.weight": "vocab embed"},
        ),
        Rule(
            {"positions/weight": "position embed"},
            {"bert.embeddings.position_embeddings.weight": "position embed"},
        ),
        Rule(
            {"token_types/weight": "type embed"},
            {"bert.embeddings.token_type_embeddings.weight": "type embed"},
        ),
        *bias_norm("embedding_norm", "bert.embeddings.LayerNorm"),
        *within("stack/{layer}/", "bert.encoder.layer.{layer}.", *_LAYER),
        # Of the masked language model, and of the classifier.
        *biased("transform/projection", "cls.predictions.transform.dense", optional=True),
        *bias_norm("transform/norm", "cls.predictions.transform.LayerNorm", optional=True),
        Rule({"head_bias": "vocab"}, {"cls.predictions.bias": "vocab"}, optional=True),
        *biased("classifier/transform/projection", "bert.pooler.dense", optional=True),
        *biased("classifier/output", "classifier", optional=True),
    ),
    ties={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=(r"bert\.embeddings\.position_ids", r"cls\.seq_relationship\..*"),
)


_PARTS = (
    VOCAB,
    DIM,
    LAYERS,
    QUERY_HEADS,
    HIDDEN,
    Field("max_position_embeddings", "max_length", "positions.max_length", 512),
    Field("type_vocab_size", "num_token_types", "token_types.vocab_size", 2),
    Field("layer_norm_eps", "eps", "embedding_norm.eps", 1e-12),
    Field(
        "hidden_act",
        "activation",
        f"{FIRST}.feed_forward.activation",
        "gelu",
        values={"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu", "silu": "silu"},
    ),
)
_FIXED = {
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "position_embedding_type": ("absolute", None),
    "tie_word_embeddings": (True, None),
}


BERT = Family(
    model_type="bert",
    architecture="BertForMaskedLM",
    build=bert,
    weights=BERT_WEIGHTS,
    parts=_PARTS,
    fixed=_FIXED,
)


BERT_CLASSIFIER = Family(
    model_type="bert",
    architecture="BertForSequenceClassification",
    build=bert_classifier,
    weights=BERT_WEIGHTS,
    parts=(
        *_PARTS,
        Count("num_labels", "num_classes", "num_classes", listed="id2label", default=2),
    ),
    fixed=_FIXED,
)
