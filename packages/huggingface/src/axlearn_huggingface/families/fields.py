"""Fields of `config.json` that the tables of several families share."""

from __future__ import annotations

from axlearn_huggingface.configs import Field, Width
from axlearn_huggingface.configs.fields import head_width

FIRST = "stack.layers.0"  # of a model whose stack is a flat list


def norm(default: float) -> Field:
    """The eps of RMS norms."""
    return Field("rms_norm_eps", "eps", "norm.eps", default)


VOCAB = Field("vocab_size", "vocab_size", "vocab_size")
DIM = Field("hidden_size", "dim", "dim")
LAYERS = Field("num_hidden_layers", "num_layers", lambda model: len(model.stack.layers))
QUERY_HEADS = Field("num_attention_heads", "num_heads", f"{FIRST}.attention.num_heads")
HEADS = (
    QUERY_HEADS,
    Field(
        "num_key_value_heads",
        "num_kv_heads",
        lambda model: (
            model.stack.layers[0].attention.num_kv_heads
            or model.stack.layers[0].attention.num_heads
        ),
        None,
        like="num_attention_heads",
    ),
)
HIDDEN = Field("intermediate_size", "hidden_dim", f"{FIRST}.feed_forward.hidden_dim")
DECODER = (VOCAB, DIM, LAYERS, *HEADS, HIDDEN)

HEAD_DIM = Field("head_dim", "head_dim", f"{FIRST}.attention.head_dim", None)
NO_HEAD_DIM = Width("head_dim", head_width)
TIED = Field("tie_word_embeddings", "tied", lambda model: model.head is None, False)

SILU = {"hidden_act": ("silu", "swish")}
NO_BIAS = {"attention_bias": (False, None)}
UNTIED = {"tie_word_embeddings": (False, None)}
EVERY_TOKEN = {  # of attention: Qwen's windows of some layers
    "use_sliding_window": (False, None),
}
