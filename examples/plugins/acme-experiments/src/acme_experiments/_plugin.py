"""What this package provides. It imports nothing heavy: every `axl` command reads it."""

from axlearn_core.plugins import ExperimentRecord, hookimpl


@hookimpl
def axlearn_experiments() -> list[ExperimentRecord]:
    return [
        ExperimentRecord(
            "sums.tiny",
            "acme_experiments.sums:sums",
            "A Llama with the parts of three plugins learns to add.",
        ),
    ]
