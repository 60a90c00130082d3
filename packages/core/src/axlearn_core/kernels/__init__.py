"""Op specifications and their implementations: layers call the op, hardware packages provide."""

from axlearn_core.kernels.attention import (
    AttentionInputs,
    AttentionSpec,
    ContextAttentionSpec,
    attention,
)
from axlearn_core.kernels.biases import BucketedBias, LinearBias, ScoreBias
from axlearn_core.kernels.masks import (
    BlockKind,
    Mask,
    causal,
    chunk,
    full,
    prefix,
    same_segment,
    window,
)
from axlearn_core.kernels.quantized import (
    QuantizedFormat,
    QuantizedMatmulInputs,
    QuantizedMatmulSpec,
    quantized_matmul,
)
from axlearn_core.kernels.ragged import RaggedMatmulInputs, RaggedMatmulSpec, ragged_matmul
from axlearn_core.kernels.selection import (
    Choice,
    Kernel,
    KernelError,
    choose,
    recording_choices,
    select,
)

__all__ = [
    "AttentionInputs",
    "AttentionSpec",
    "BlockKind",
    "BucketedBias",
    "Choice",
    "ContextAttentionSpec",
    "Kernel",
    "KernelError",
    "LinearBias",
    "Mask",
    "QuantizedFormat",
    "QuantizedMatmulInputs",
    "QuantizedMatmulSpec",
    "RaggedMatmulInputs",
    "RaggedMatmulSpec",
    "ScoreBias",
    "attention",
    "causal",
    "choose",
    "chunk",
    "full",
    "prefix",
    "quantized_matmul",
    "ragged_matmul",
    "recording_choices",
    "same_segment",
    "select",
    "window",
]
