"""What this package provides."""

from axlearn_core.plugins import LayerRecord, ModelRecord, hookimpl

_PACKAGE = "axlearn_layers"


@hookimpl
def axlearn_layers() -> list[LayerRecord]:
    return [
        _layer("linear", "linear:Linear", "Linear projection between any dimensions."),
        _layer("quantized_linear", "quantized_linear:QuantizedLinear", "Products of FP8 or INT8."),
        _layer(
            "quantized_gated_experts",
            "quantized_linear:QuantizedGatedExperts",
            "Experts whose products are of FP8 or INT8.",
        ),
        _layer("embedding", "embedding:Embedding", "Token table, also as head (arXiv:1608.05859)."),
        _layer("rms_norm", "norms:RMSNorm", "Root mean square norm (arXiv:1910.07467)."),
        _layer("layer_norm", "norms:LayerNorm", "Layer norm with bias (arXiv:1607.06450)."),
        _layer("group_norm", "norms:GroupNorm", "Layer norm of parts (arXiv:1803.08494)."),
        _layer("fused_qkv", "qkv:FusedQKV", "Grouped queries, keys, values (arXiv:2305.13245)."),
        _layer("separate_qkv", "qkv:SeparateQKV", "Queries, keys and values, each its own weight."),
        _layer("query_only", "qkv:QueryOnly", "Queries of a layer that reads another's keys."),
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
        _layer("cross_attention", "cross_attention:CrossAttention", "Reads another sequence."),
        _layer("latent_attention", "latent_attention:LatentAttention", "MLA (arXiv:2405.04434)."),
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
        _layer("pipeline", "pipeline:Pipeline", "Layers of one config, in stages at once."),
        _layer("circular", "pipeline_schedules:Circular", "GPipe (arXiv:1811.06965), interleaved."),
        _layer(
            "one_forward_one_backward",
            "pipeline_schedules:OneForwardOneBackward",
            "1F1B, of constant memory (arXiv:1806.03377).",
        ),
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
        _layer("shared_keys", "shared_keys:SharedKeys", "Layers on one cache (arXiv:2507.13575)."),
        _layer(
            "shared_bias", "shared_bias:SharedBias", "One bias of the scores for a stack, as T5."
        ),
        _layer("residual", "residual:Residual", "One pre-norm branch, such as Mamba's block."),
        _layer("mamba2", "mamba:Mamba2", "State-space duality (arXiv:2405.21060)."),
        _layer("gated_delta_net", "delta_net:GatedDeltaNet", "arXiv:2412.06464."),
        _layer("causal_conv", "conv:CausalConv", "Short convolution of each channel, cached."),
        _layer("lora", "lora:LoRA", "Low-rank adapter of a projection (arXiv:2106.09685)."),
        _layer("head_transform", "head_transform:HeadTransform", "Before a head (BERT)."),
        _layer("first_token", "pooling:FirstToken", "A sequence is its first vector, [CLS]."),
        _layer("last_token", "pooling:LastToken", "A sequence is its last vector."),
        _layer("mean_pooling", "pooling:MeanPooling", "The mean of vectors (arXiv:1908.10084)."),
        _layer("class_cross_entropy", "sequence_loss:ClassCrossEntropy", "One of some classes."),
        _layer("squared_error", "sequence_loss:SquaredError", "Regression of sequences."),
        _layer("preference", "sequence_loss:Preference", "Bradley-Terry (arXiv:2203.02155)."),
        _layer("dora", "dora:DoRA", "LoRA and a magnitude per output (arXiv:2402.09353)."),
        _layer("multi_lora", "multi_lora:MultiLoRA", "LoRAs that the rows of a batch choose from."),
    ]


@hookimpl
def axlearn_models() -> list[ModelRecord]:
    return [
        _model("causal_lm", "causal_lm:CausalLM", "Decoder-only language model."),
        _model("masked_lm", "masked_lm:MaskedLM", "Encoder, as BERT (arXiv:1810.04805)."),
        _model("encoder_decoder", "encoder_decoder:EncoderDecoder", "As T5 (arXiv:1910.10683)."),
        _model("sequence_classifier", "sequence_classifier:SequenceClassifier", "Or a reward."),
        _model("multi_token_lm", "multi_token:MultiTokenLM", "Looks ahead (arXiv:2412.19437)."),
    ]


def _frequencies(name: str, component: str, summary: str) -> LayerRecord:
    return _layer(f"{name}_frequencies", f"rotary_frequencies:{component}", summary)


def _model(name: str, target: str, summary: str) -> ModelRecord:
    return ModelRecord(name, f"{_PACKAGE}.{target}", summary)


def _layer(name: str, target: str, summary: str) -> LayerRecord:
    return LayerRecord(name, f"{_PACKAGE}.{target}", summary)
