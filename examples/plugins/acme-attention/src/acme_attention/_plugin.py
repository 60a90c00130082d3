"""What this package provides. It imports nothing heavy: every `axl` command reads it."""

from axlearn_core.plugins import LayerRecord, hookimpl


@hookimpl
def axlearn_layers() -> list[LayerRecord]:
    return [
        LayerRecord(
            "differential_attention",
            "acme_attention.differential:DifferentialAttention",
            "The difference of two attention maps (arXiv:2410.05258).",
        ),
        LayerRecord(
            "xpos",
            "acme_attention.xpos:XPos",
            "Rotary positions that fade with distance (arXiv:2212.10554).",
        ),
    ]
