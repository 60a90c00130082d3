"""What this package provides."""

from axlearn_core.plugins import LayerRecord, ModelRecord, hookimpl

_PACKAGE = "axlearn_layers"


@hookimpl
def axlearn_layers() -> list[LayerRecord]:
    return [
        _layer("linear", "linear:Linear", "Linear projection between any dimensions."),
        _layer("embedding", "embedding:Embedding", "Token table, also as head (arXiv:1608.05859)."),
        _layer("rms_norm", "norms:RMSNorm", "Root mean square norm (arXiv:1910.07467)."),
        _layer("layer_norm", "norms:LayerNorm", "Layer norm with bias (arXiv:1607.06450)."),
        _layer("group_norm", "norms:GroupNorm", "Layer norm of parts (arXiv:1803.08494)."),
        _layer("fused_qkv", "qkv:FusedQKV", "Grouped queries, keys, values (arXiv:2305.13245)."),
        _layer("qk_norm", "qk_norm:QKNorm", "Normed queries and keys (arXiv:2302.05442)."),
        _layer("rotary", "rotary:Rotary", "Rotary positions around a QKV (arXiv:2104.09864)."),
        _frequencies("rotary", "RotaryFrequencies", "Rotary frequencies, as they are."),
        _frequencies("linear", "LinearFrequencies", "Interpolated (arXiv:2306.15595)."),
        _frequencies("dynamic_ntk", "DynamicNTKFrequencies", "By length (arXiv:2309.00071)."),
        _frequencies("llama3", "Llama3Frequencies", "Llama 3.1's scaling (arXiv:2407.21783)."),
        _frequencies("yarn", "YarnFrequencies", "YaRN (arXiv:2309.00071)."),
        _layer("learned_positions", "positions:LearnedPositions", "Trained absolute positions."),
        _layer("sinusoidal_positions", "positions:SinusoidalPositions", "Fixed positions."),
        _layer("alibi", "attention_bias:Alibi", "Scores less distance (arXiv:2108.12409)."),
        _layer("t5_bias", "attention_bias:T5Bias", "Learned relative bias (arXiv:1910.10683)."),
        _layer("attention", "attention:Attention", "Multi-head attention (arXiv:1706.03762)."),
        _layer("contiguous_cache", "cache:ContiguousCache", "Keys and values, slot = position."),
        _layer("gated_feed_forward", "feed_forward:GatedFeedForward", "SwiGLU (arXiv:2002.05202)."),
        _layer("dense_feed_forward", "feed_forward:DenseFeedForward", "Two linear maps, GELU."),
        _layer("scaled_dim", "feed_forward:ScaledDim", "Hidden dimension by the input's."),
        _layer("transformer_block", "block:TransformerBlock", "Pre-norm block (arXiv:2002.04745)."),
        _layer("post_norm_block", "block:PostNormBlock", "Norms after adding (arXiv:1706.03762)."),
        _layer("branch_norm_block", "block:BranchNormBlock", "Normed branches (arXiv:2501.00656)."),
        _layer("sandwich_block", "block:SandwichBlock", "Norms on both sides (arXiv:2408.00118)."),
        _layer("parallel_block", "block:ParallelBlock", "Branches at once (arXiv:2204.02311)."),
        _layer("dropout", "dropout:Dropout", "Zeros at random (arXiv:1207.0580)."),
        _layer("layer_drop", "layer_drop:LayerDrop", "Layers left out (arXiv:1909.11556)."),
        _layer("repeat", "stack:Repeat", "Layers of one config, scanned over depth."),
        _layer("remat", "stack:Remat", "Which activations to keep, by name."),
        _layer("linear_cross_entropy", "loss:LinearCrossEntropy", "Fused head and loss, chunked."),
        _layer("mixture_of_experts", "mixture:MixtureOfExperts", "Sparse feed-forward layer."),
        _layer("gated_experts", "mixture:GatedExperts", "SwiGLU experts side by side."),
        _layer("softmax_router", "router:SoftmaxRouter", "Top-k of a softmax (arXiv:2006.16668)."),
        _layer("sigmoid_router", "router:SigmoidRouter", "DeepSeek-V3's (arXiv:2412.19437)."),
        _layer("expert_choice_router", "router:ExpertChoiceRouter", "arXiv:2202.09368."),
        _layer("dropless", "dispatch:Dropless", "Sorted tokens, ragged matrix products."),
        _layer("capacity_dispatch", "dispatch:CapacityDispatch", "GShard (arXiv:2006.16668)."),
        _layer("layer_list", "stack:LayerList", "Layers of any kinds, one after the other."),
        _layer("residual", "residual:Residual", "One pre-norm branch, such as Mamba's block."),
        _layer("mamba2", "mamba:Mamba2", "State-space duality (arXiv:2405.21060)."),
        _layer("gated_delta_net", "delta_net:GatedDeltaNet", "arXiv:2412.06464."),
        _layer("causal_conv", "conv:CausalConv", "Short convolution of each channel, cached."),
        _layer("lora", "lora:LoRA", "Low-rank adapter of a projection (arXiv:2106.09685)."),
        _layer("dora", "dora:DoRA", "LoRA and a magnitude per output (arXiv:2402.09353)."),
        _layer("multi_lora", "multi_lora:MultiLoRA", "LoRAs that the rows of a batch choose from."),
    ]


@hookimpl
def axlearn_models() -> list[ModelRecord]:
    return [
        ModelRecord("causal_lm", f"{_PACKAGE}.causal_lm:CausalLM", "Decoder-only language model."),
    ]


def _frequencies(name: str, component: str, summary: str) -> LayerRecord:
    return _layer(f"{name}_frequencies", f"rotary_frequencies:{component}", summary)


def _layer(name: str, target: str, summary: str) -> LayerRecord:
    return LayerRecord(name, f"{_PACKAGE}.{target}", summary)
