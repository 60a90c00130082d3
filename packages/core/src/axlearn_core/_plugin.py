"""What core itself provides, announced like any other plugin."""

from axlearn_core.plugins import HardwareRecord, KernelRecord, Record, hookimpl


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
    ]
