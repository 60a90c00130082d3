"""What this package provides."""

from axlearn_core.plugins import HardwareRecord, KernelRecord, MeshRuleRecord, Record, hookimpl


@hookimpl
def axlearn_hardware() -> list[Record]:
    return [
        HardwareRecord(
            "nvidia",
            "axlearn_hardware_gpu.backend:NvidiaGPU",
            "NVIDIA data centre GPUs, from A100 to B300.",
            platform="gpu",
        ),
    ]


@hookimpl
def axlearn_mesh_rules() -> list[Record]:
    return [
        MeshRuleRecord(
            "gpu-without-nvlink",
            "axlearn_hardware_gpu.mesh_rules:WITHOUT_NVLINK",
            "L4 and L40S: data parallel as far as the model fits, since PCIe is slow.",
            pattern=r"gpu-(l4|l40s)-\d+",
        ),
        MeshRuleRecord(
            "gpu-nvl72",
            "axlearn_hardware_gpu.mesh_rules:NVL72",
            "GB200: parameters sharded within an NVLink domain of 72, if they fit.",
            pattern=r"gpu-gb200-\d+",
        ),
        MeshRuleRecord(
            "gpu-nodes",
            "axlearn_hardware_gpu.mesh_rules:NODES_OF_8",
            "Nodes of 8 GPUs: parameters sharded within a node, if they fit.",
            pattern=r"gpu-.+-\d+",
        ),
        _recipe(
            "float8",
            "FLOAT8",
            "Linear layers multiply FP8: GPUs since Hopper and Ada.",
            r"gpu-(h100|h100-pcie|h200|b200|gb200|b300|l4|l40s)-\d+",
        ),
        _recipe(
            "offload",
            "OFFLOAD",
            "Activations that do not fit wait in the host's memory.",
            r"gpu-.+-\d+",
        ),
        _recipe(
            "float32-gradients",
            "FLOAT32_GRADIENTS",
            "Gradients are exchanged and added up in float32.",
            r"gpu-.+-\d+",
        ),
        _recipe(
            "bfloat16-gradients",
            "BFLOAT16_GRADIENTS",
            "Gradients are kept and added up in bfloat16.",
            r"gpu-.+-\d+",
        ),
    ]


@hookimpl
def axlearn_kernels() -> list[Record]:
    return [
        KernelRecord(
            "attention.cudnn",
            "axlearn_hardware_gpu.kernels.cudnn:CudnnAttention",
            "cuDNN's fused attention: causal, windows, or every key.",
            op="attention",
            platform="gpu",
        ),
        KernelRecord(
            "attention.triton",
            "axlearn_hardware_gpu.kernels.triton:TritonAttention",
            "Skips masked blocks; any mask, packed documents, soft caps, sinks.",
            op="attention",
            platform="gpu",
        ),
        KernelRecord(
            "ragged_matmul.triton",
            "axlearn_hardware_gpu.kernels.ragged:TritonRaggedMatmul",
            "Multiplies each row by the matrix of its own group, and by no other.",
            op="ragged_matmul",
            platform="gpu",
        ),
    ]


def _recipe(name: str, attribute: str, summary: str, pattern: str) -> Record:
    target = f"axlearn_hardware_gpu.mesh_rules:{attribute}"
    return MeshRuleRecord(name, target, summary, pattern=pattern, optional=True)
