"""What this package provides."""

from collections.abc import Sequence

from axlearn_core.plugins import CommandRecord, LayerRecord, hookimpl


@hookimpl
def axlearn_layers() -> Sequence[LayerRecord]:
    """Caches, for `model.**.cache=inference/paged`."""
    return [
        LayerRecord(
            "paged",
            "axlearn_inference.caches:PagedCache",
            "Keys and values in pages that sequences take as they grow, and may share.",
        ),
    ]


@hookimpl
def axlearn_commands() -> Sequence[CommandRecord]:
    """Commands of `axl`."""
    return [
        CommandRecord(
            "serve",
            "axlearn_inference.cli.serve:serve",
            "Serve a model over HTTP, and chat with it.",
        ),
    ]
