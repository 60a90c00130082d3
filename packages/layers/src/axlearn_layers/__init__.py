"""Layers and the language models built from them."""

from axlearn_layers.activations import ACTIVATIONS, activation
from axlearn_layers.adapter import Adapter
from axlearn_layers.attention import Attention
from axlearn_layers.attention_bias import Alibi, AttentionBias, T5Bias
from axlearn_layers.attention_layer import AttentionLayer, head_sizes, name_for_remat
from axlearn_layers.backbone import Backbone, TokenStack
from axlearn_layers.block import (
    Block,
    BranchNormBlock,
    ParallelBlock,
    PostNormBlock,
    SandwichBlock,
    TransformerBlock,
)
from axlearn_layers.cache import ContiguousCache, KeysAndValues, KVCache
from axlearn_layers.causal_lm import CausalLM
from axlearn_layers.conv import CausalConv
from axlearn_layers.cross_attention import CrossAttention
from axlearn_layers.delta_net import DeltaInputs, GatedDeltaNet, gated_delta_rule
from axlearn_layers.dispatch import CapacityDispatch, Dispatch, Dropless, ExpertFunction
from axlearn_layers.dora import DoRA
from axlearn_layers.dropout import Dropout
from axlearn_layers.embedding import Embedding
from axlearn_layers.encoder_decoder import EncoderDecoder
from axlearn_layers.feed_forward import DenseFeedForward, FeedForward, GatedFeedForward, ScaledDim
from axlearn_layers.flops import flops_per_token, matmul_flops_per_token
from axlearn_layers.head_transform import HeadTransform
from axlearn_layers.latent_attention import LatentAttention
from axlearn_layers.layer_drop import LayerDrop
from axlearn_layers.linear import Linear, Projection
from axlearn_layers.lora import LoRA
from axlearn_layers.loss import LinearCrossEntropy, TokenLoss
from axlearn_layers.mamba import Mamba2
from axlearn_layers.masked_lm import MaskedLM
from axlearn_layers.merging import merge_adapters, unmerge_adapters
from axlearn_layers.mixture import Experts, GatedExperts, MixtureOfExperts
from axlearn_layers.multi_lora import MultiLoRA
from axlearn_layers.multi_token import MultiTokenLM, NextDepth
from axlearn_layers.norms import GroupNorm, LayerNorm, Norm, RMSNorm
from axlearn_layers.pipeline import AroundStack, LossOfStack, Pipeline
from axlearn_layers.pipeline_schedules import Circular, OneForwardOneBackward, PipelineSchedule
from axlearn_layers.pooling import FirstToken, LastToken, MeanPooling, Pooling
from axlearn_layers.positions import LearnedPositions, PositionEmbedding, SinusoidalPositions
from axlearn_layers.qk_norm import QKNorm
from axlearn_layers.qkv import QKV, FusedQKV, QKVProjection, QKVWrapper, QueryOnly, SeparateQKV
from axlearn_layers.quantized_linear import QuantizedGatedExperts, QuantizedLinear
from axlearn_layers.recurrent import RecurrentLayer
from axlearn_layers.residual import Residual
from axlearn_layers.rotary import Rotary
from axlearn_layers.rotary_frequencies import (
    DynamicNTKFrequencies,
    LinearFrequencies,
    Llama3Frequencies,
    RotaryFrequencies,
    YarnFrequencies,
)
from axlearn_layers.router import (
    ExpertChoiceRouter,
    Router,
    Routing,
    SigmoidRouter,
    SoftmaxRouter,
    TopKRouter,
)
from axlearn_layers.sequence import Memory, SequenceInfo, SequenceLayer
from axlearn_layers.sequence_classifier import ClassificationHead, SequenceClassifier
from axlearn_layers.sequence_loss import (
    ClassCrossEntropy,
    Preference,
    SequenceLoss,
    SquaredError,
)
from axlearn_layers.shared_bias import SharedBias
from axlearn_layers.shared_keys import SharedKeys
from axlearn_layers.ssd import SSDInputs, ssd
from axlearn_layers.stack import (
    LayerList,
    Remat,
    Repeat,
    Stack,
    StackedLayer,
    both_directions,
    scanned_pattern,
    unrolled_layers,
)
from axlearn_layers.targets import targets_of
from axlearn_layers.token_model import TokenModel, share_out, with_auxiliary_losses

__all__ = [
    "Linear",
    "QuantizedGatedExperts",
    "QuantizedLinear",
    "Projection",
    "Embedding",
    "Norm",
    "RMSNorm",
    "LayerNorm",
    "GroupNorm",
    "ACTIVATIONS",
    "activation",
    "QKV",
    "QKVProjection",
    "FusedQKV",
    "SeparateQKV",
    "QueryOnly",
    "QKVWrapper",
    "QKNorm",
    "Rotary",
    "RotaryFrequencies",
    "LinearFrequencies",
    "DynamicNTKFrequencies",
    "Llama3Frequencies",
    "YarnFrequencies",
    "PositionEmbedding",
    "LearnedPositions",
    "SinusoidalPositions",
    "AttentionLayer",
    "head_sizes",
    "name_for_remat",
    "Attention",
    "CrossAttention",
    "LatentAttention",
    "AttentionBias",
    "Alibi",
    "T5Bias",
    "KVCache",
    "KeysAndValues",
    "ContiguousCache",
    "FeedForward",
    "GatedFeedForward",
    "DenseFeedForward",
    "ScaledDim",
    "Memory",
    "SequenceInfo",
    "SequenceLayer",
    "Block",
    "TransformerBlock",
    "PostNormBlock",
    "BranchNormBlock",
    "SandwichBlock",
    "ParallelBlock",
    "Dropout",
    "LayerDrop",
    "Stack",
    "StackedLayer",
    "unrolled_layers",
    "Pipeline",
    "PipelineSchedule",
    "Circular",
    "OneForwardOneBackward",
    "AroundStack",
    "LossOfStack",
    "Repeat",
    "Remat",
    "SharedKeys",
    "SharedBias",
    "TokenLoss",
    "LinearCrossEntropy",
    "targets_of",
    "Backbone",
    "TokenStack",
    "TokenModel",
    "with_auxiliary_losses",
    "share_out",
    "CausalLM",
    "MaskedLM",
    "EncoderDecoder",
    "SequenceClassifier",
    "ClassificationHead",
    "HeadTransform",
    "Pooling",
    "FirstToken",
    "LastToken",
    "MeanPooling",
    "SequenceLoss",
    "ClassCrossEntropy",
    "SquaredError",
    "Preference",
    "MultiTokenLM",
    "NextDepth",
    "flops_per_token",
    "matmul_flops_per_token",
    "MixtureOfExperts",
    "Experts",
    "GatedExperts",
    "Router",
    "Routing",
    "TopKRouter",
    "SoftmaxRouter",
    "SigmoidRouter",
    "ExpertChoiceRouter",
    "Dispatch",
    "Dropless",
    "ExpertFunction",
    "CapacityDispatch",
    "LayerList",
    "scanned_pattern",
    "both_directions",
    "Residual",
    "RecurrentLayer",
    "Mamba2",
    "CausalConv",
    "SSDInputs",
    "ssd",
    "GatedDeltaNet",
    "DeltaInputs",
    "gated_delta_rule",
    "Adapter",
    "LoRA",
    "DoRA",
    "MultiLoRA",
    "merge_adapters",
    "unmerge_adapters",
]
