"""Op specifications and their implementations: layers call the op, hardware packages provide."""

from axlearn_core.kernels.attention import (
    AttentionInputs,
    AttentionSpec,
    ContextAttentionSpec,
    attention,
)
from axlearn_core.kernels.attention_flops import attention_flops
from axlearn_core.kernels.biases import BucketedBias, LinearBias, ScoreBias
from axlearn_core.kernels.cross_entropy import (
    CrossEntropyInputs,
    CrossEntropySpec,
    LossSums,
    cross_entropy,
    soft_cap,
)
from axlearn_core.kernels.masks import (
    BlockKind,
    Mask,
    causal,
    chunk,
    full,
    prefix,
    same_segment,
    split_segments,
    window,
)
from axlearn_core.kernels.norm import NormInputs, NormKind, NormSpec, norm
from axlearn_core.kernels.quantized import (
    QuantizedFormat,
    QuantizedMatmulInputs,
    QuantizedMatmulSpec,
    quantized_matmul,
)
from axlearn_core.kernels.quantized_ragged import quantized_ragged_matmul
from axlearn_core.kernels.ragged import RaggedMatmulInputs, RaggedMatmulSpec, ragged_matmul
from axlearn_core.kernels.selection import (
    Candidate,
    Choice,
    Kernel,
    KernelError,
    candidates_of,
    choose,
    kernel_of,
    recording_choices,
    scope_of,
    select,
)
from axlearn_core.kernels.targets import SoftTargets, Targets

__all__ = [
    "AttentionInputs",
    "AttentionSpec",
    "BlockKind",
    "BucketedBias",
    "Candidate",
    "Choice",
    "ContextAttentionSpec",
    "CrossEntropyInputs",
    "CrossEntropySpec",
    "Kernel",
    "KernelError",
    "LinearBias",
    "LossSums",
    "Mask",
    "NormInputs",
    "NormKind",
    "NormSpec",
    "QuantizedFormat",
    "QuantizedMatmulInputs",
    "QuantizedMatmulSpec",
    "RaggedMatmulInputs",
    "RaggedMatmulSpec",
    "ScoreBias",
    "SoftTargets",
    "Targets",
    "attention",
    "attention_flops",
    "candidates_of",
    "causal",
    "choose",
    "chunk",
    "cross_entropy",
    "full",
    "kernel_of",
    "norm",
    "prefix",
    "quantized_matmul",
    "quantized_ragged_matmul",
    "ragged_matmul",
    "recording_choices",
    "same_segment",
    "scope_of",
    "select",
    "soft_cap",
    "split_segments",
    "window",
]
