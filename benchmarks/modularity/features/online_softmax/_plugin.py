"""What this plugin provides."""

from axlearn_core.plugins import KernelRecord, hookimpl


@hookimpl
def axlearn_kernels() -> list[KernelRecord]:
    return [
        KernelRecord(
            "attention.online",
            "online_softmax.kernel:OnlineSoftmaxAttention",
            "Keys in chunks, with a running softmax (arXiv:2112.05682).",
            op="attention",
        )
    ]
