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
