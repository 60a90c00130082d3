"""What this package provides."""

from axlearn_core.plugins import HardwareRecord, KernelRecord, MeshRuleRecord, Record, hookimpl


@hookimpl
def axlearn_hardware() -> list[Record]:
    return [
        HardwareRecord(
            "tpu",
            "axlearn_hardware_tpu.backend:TPU",
            "Cloud TPUs: v4, v5e, v5p, v6e and TPU7x.",
            platform="tpu",
        ),
    ]


@hookimpl
def axlearn_mesh_rules() -> list[Record]:
    return [
        MeshRuleRecord(
            "tpu-3d-slice",
            "axlearn_hardware_tpu.mesh_rules:ONE_SLICE",
            "A slice of v4, v5p or TPU7x: parameters sharded over all.",
            pattern=r"tpu-(v4|v5p|7x)-\d+",
        ),
        MeshRuleRecord(
            "tpu-2d-slices",
            "axlearn_hardware_tpu.mesh_rules:SLICES_OF_256",
            "v5e or v6e: parameters sharded within a slice of up to 256, if they fit.",
            pattern=r"tpu-(v5e|v6e)-\d+",
        ),
        _recipe(
            "int8",
            "INT8",
            "Linear layers multiply INT8.",
            r"tpu-(v5e|v6e)-\d+",
        ),
        _recipe(
            "float8",
            "FLOAT8",
            "Linear layers multiply FP8.",
            r"tpu-7x-\d+",
        ),
        _recipe(
            "offload",
            "OFFLOAD",
            "Activations that do not fit wait in the host's memory.",
            r"tpu-.+-\d+",
        ),
        _recipe(
            "float32-gradients",
            "FLOAT32_GRADIENTS",
            "Gradients are exchanged and added up in float32.",
            r"tpu-.+-\d+",
        ),
        _recipe(
            "bfloat16-gradients",
            "BFLOAT16_GRADIENTS",
            "Gradients are kept and added up in bfloat16.",
            r"tpu-.+-\d+",
        ),
    ]


@hookimpl
def axlearn_kernels() -> list[Record]:
    return [
        KernelRecord(
            "attention.splash",
            "axlearn_hardware_tpu.kernels.splash:SplashAttention",
            "Skips masked blocks; windows, packed documents, soft caps, sinks.",
            op="attention",
            platform="tpu",
        ),
    ]


def _recipe(name: str, attribute: str, summary: str, pattern: str) -> Record:
    target = f"axlearn_hardware_tpu.mesh_rules:{attribute}"
    return MeshRuleRecord(name, target, summary, pattern=pattern, optional=True)
