"""What this plugin provides."""

from axlearn_core.plugins import LayerRecord, hookimpl


@hookimpl
def axlearn_layers() -> list[LayerRecord]:
    return [
        LayerRecord("p_rope", "p_rope.frequencies:PRoPE", "Slow pairs stay (arXiv:2410.06205).")
    ]
