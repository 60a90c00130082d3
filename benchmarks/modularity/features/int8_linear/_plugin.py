"""What this plugin provides."""

from axlearn_core.plugins import LayerRecord, hookimpl


@hookimpl
def axlearn_layers() -> list[LayerRecord]:
    target = "int8_linear.linear:Int8Linear"
    return [LayerRecord("int8_linear", target, "Products of 8-bit integers (arXiv:1712.05877).")]
