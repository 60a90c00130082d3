"""What this package provides."""

from collections.abc import Sequence

from axlearn_core.plugins import CommandRecord, DataSourceRecord, hookimpl


@hookimpl
def axlearn_commands() -> Sequence[CommandRecord]:
    """Commands."""
    where = "axlearn_huggingface.cli"
    return [
        CommandRecord("import", f"{where}.importing:import_group", "Take published weights in."),
        CommandRecord("export", f"{where}.exporting:export_group", "Give weights to others."),
    ]


@hookimpl
def axlearn_data_sources() -> Sequence[DataSourceRecord]:
    """Data sources."""
    return [
        DataSourceRecord(
            "pretrained",
            "axlearn_huggingface.pretrained:Pretrained",
            "The tokenizer of an imported model, and no batches.",
        ),
    ]
