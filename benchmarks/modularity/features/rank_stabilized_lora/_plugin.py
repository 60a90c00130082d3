"""What this plugin provides."""

from axlearn_core.plugins import LayerRecord, hookimpl


@hookimpl
def axlearn_layers() -> list[LayerRecord]:
    target = "rank_stabilized_lora.adapter:RankStabilizedLoRA"
    return [LayerRecord("rslora", target, "LoRA at any rank (arXiv:2312.03732).")]
