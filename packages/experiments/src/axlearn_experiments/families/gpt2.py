"""GPT-2 (Radford et al. 2019, "Language models are unsupervised multitask learners")."""

from __future__ import annotations

from axlearn_experiments.families.decoder import decoder
from axlearn_experiments.families.rules import bias_norm
from axlearn_experiments.weights import Rule, WeightMapping, within
from axlearn_layers import (
    CausalLM,
    DenseFeedForward,
    FusedQKV,
    LayerNorm,
    LearnedPositions,
    Linear,
    TransformerBlock,
)


def gpt2(
    *,
    vocab_size: int = 50_257,
    dim: int,
    num_layers: int,
    num_heads: int,
    max_length: int = 1024,
    eps: float = 1e-5,
) -> CausalLM.Config:
    """Learned positions, layer norms and biases everywhere; the head is the embedding table.

    Args:
        vocab_size: number of token ids.
        dim: width of the residual stream; 4 times that inside the feed-forward layers.
        num_layers: blocks.
        num_heads: heads of dim / num_heads each.
        max_length: how many positions there are.
        eps: of the norms.
    """
    norm = LayerNorm.default_config().set(eps=eps)
    biased = Linear.default_config().set(bias=True)
    block = TransformerBlock.default_config().set(norm=norm)
    block.attention.set(
        num_heads=num_heads, qkv=FusedQKV.default_config().set(projection=biased), output=biased
    )
    block.feed_forward = DenseFeedForward.default_config().set(
        hidden_dim=4 * dim, activation="gelu_tanh"
    )
    model = decoder(
        block, vocab_size=vocab_size, dim=dim, num_layers=num_layers, norm=norm, tied=True
    )
    return model.set(positions=LearnedPositions.default_config().set(max_length=max_length))


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
