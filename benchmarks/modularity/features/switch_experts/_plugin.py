"""What this plugin provides."""

from axlearn_core.plugins import LayerRecord, hookimpl


@hookimpl
def axlearn_layers() -> list[LayerRecord]:
    target = "switch_experts.experts:SwitchExperts"
    return [LayerRecord("switch_experts", target, "One expert a token (arXiv:2101.03961).")]
