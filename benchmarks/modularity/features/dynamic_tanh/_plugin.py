"""What this plugin provides."""

from axlearn_core.plugins import LayerRecord, hookimpl


@hookimpl
def axlearn_layers() -> list[LayerRecord]:
    target = "dynamic_tanh.norm:DynamicTanh"
    return [LayerRecord("dynamic_tanh", target, "A norm without statistics (arXiv:2503.10622).")]
