"""What core itself provides, announced like any other plugin."""

from axlearn_core.plugins import (
    HardwareRecord,
    KernelRecord,
    LauncherRecord,
    LayerRecord,
    LearnerRecord,
    Record,
    WriterRecord,
    hookimpl,
)


@hookimpl
def axlearn_hardware() -> list[Record]:
    return [
        HardwareRecord(
            "cpu",
            "axlearn_core.hardware.cpu:CPU",
            "The host's processor, with as many virtual devices as one likes.",
            platform="cpu",
        ),
    ]


@hookimpl
def axlearn_kernels() -> list[Record]:
    return [
        KernelRecord(
            "attention.reference",
            "axlearn_core.kernels.reference:ReferenceAttention",
            "Attention as the formula says it: any mask, any positions.",
            op="attention",
        ),
        KernelRecord(
            "attention.blocked",
            "axlearn_core.kernels.blocked:BlockedAttention",
            "Skips masked blocks and makes the weights again in the backward pass.",
            op="attention",
        ),
        KernelRecord(
            "context_attention.all_to_all",
            "axlearn_core.kernels.all_to_all_attention:AllToAllAttention",
            "A split sequence is exchanged for split heads, any kernel computes, and back.",
            op="context_attention",
        ),
        KernelRecord(
            "context_attention.ring",
            "axlearn_core.kernels.ring_attention:RingAttention",
            "Keys and values of a split sequence travel from device to device.",
            op="context_attention",
        ),
        KernelRecord(
            "ragged_matmul.reference",
            "axlearn_core.kernels.ragged_plain:ReferenceRaggedMatmul",
            "Ragged matmul as the formula says it: every row for every group, masked.",
            op="ragged_matmul",
        ),
        KernelRecord(
            "ragged_matmul.ragged_dot",
            "axlearn_core.kernels.ragged_plain:XLARaggedMatmul",
            "XLA's own operation, for GPUs and TPUs.",
            op="ragged_matmul",
        ),
        KernelRecord(
            "ragged_matmul.blocked",
            "axlearn_core.kernels.ragged_blocked:BlockedRaggedMatmul",
            "Dense products of blocks of rows, for CPUs.",
            op="ragged_matmul",
        ),
        KernelRecord(
            "quantized_matmul.reference",
            "axlearn_core.kernels.quantized_plain:ReferenceQuantizedMatmul",
            "Quantised matmul as the formula says it, multiplied in float32.",
            op="quantized_matmul",
        ),
        KernelRecord(
            "quantized_matmul.native",
            "axlearn_core.kernels.quantized_plain:NativeQuantizedMatmul",
            "XLA's products of eight bits, for GPUs and TPUs.",
            op="quantized_matmul",
        ),
        KernelRecord(
            "norm.reference",
            "axlearn_core.kernels.norm_plain:ReferenceNorm",
            "Norms as the formulas say them.",
            op="norm",
        ),
        KernelRecord(
            "norm.recomputed",
            "axlearn_core.kernels.norm_plain:RecomputedNorm",
            "Keeps nothing but the input for the backward pass.",
            op="norm",
        ),
        KernelRecord(
            "cross_entropy.reference",
            "axlearn_core.kernels.cross_entropy_plain:ReferenceCrossEntropy",
            "Cross entropy as the formula says it, from all logits at once.",
            op="cross_entropy",
        ),
        KernelRecord(
            "cross_entropy.chunked",
            "axlearn_core.kernels.cross_entropy_chunked:ChunkedCrossEntropy",
            "Chunk by chunk; gradients are made while a chunk's logits exist.",
            op="cross_entropy",
        ),
    ]


# Initializers are parts of layers, and are listed with them.
@hookimpl
def axlearn_layers() -> list[Record]:
    where = "axlearn_core.module.initializers"
    return [
        LayerRecord("constant", f"{where}:Constant", "Initializer: every element is one value."),
        LayerRecord("normal", f"{where}:Normal", "Initializer: normal with mean 0."),
        LayerRecord("fan_in", f"{where}:FanIn", "Initializer: variance scale / fan-in (LeCun)."),
    ]


@hookimpl
def axlearn_launchers() -> list[Record]:
    return [
        LauncherRecord("local", "axlearn_core.launch.local:Local", "Processes on this host."),
        LauncherRecord("slurm", "axlearn_core.launch.slurm:Slurm", "A batch job of Slurm."),
        LauncherRecord("jobset", "axlearn_core.launch.jobset:JobSet", "A JobSet of Kubernetes."),
    ]


@hookimpl
def axlearn_learners() -> list[Record]:
    return [
        LearnerRecord("frozen", "axlearn_core.training.learner:Frozen", "Changes no parameter."),
    ]


@hookimpl
def axlearn_writers() -> list[Record]:
    where = "axlearn_core.observe"
    return [
        WriterRecord(
            "jsonl", f"{where}.writers:JsonlWriter", "metrics.jsonl, which is always written."
        ),
        WriterRecord(
            "tensorboard", f"{where}.writers:TensorBoardWriter", "Event files for TensorBoard."
        ),
        WriterRecord(
            "wandb", f"{where}.weights_and_biases:WandbWriter", "Weights & Biases, also offline."
        ),
        WriterRecord(
            "mlflow", f"{where}.mlflow_runs:MlflowWriter", "An MLflow server or database."
        ),
        WriterRecord(
            "prometheus", f"{where}.prometheus:PrometheusWriter", "The newest values over HTTP."
        ),
    ]
