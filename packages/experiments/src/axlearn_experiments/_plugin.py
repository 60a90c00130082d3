"""The experiments of this distribution."""

from axlearn_core.plugins import ExperimentRecord, hookimpl


@hookimpl
def axlearn_experiments() -> list[ExperimentRecord]:
    return [
        ExperimentRecord(
            "text.quickstart",
            "axlearn_experiments.text:quickstart",
            "1.3M parameters learn Moby Dick in a minute or two on two CPU cores.",
        ),
        ExperimentRecord(
            "text.llama-tiny",
            "axlearn_experiments.text:llama_tiny",
            "10M parameters on the bundled novel.",
        ),
        ExperimentRecord(
            "text.llama-85m",
            "axlearn_experiments.text:llama_85m",
            "GPT-2 small's size, for one GPU; synthetic tokens.",
        ),
        ExperimentRecord(
            "text.llama-1b",
            "axlearn_experiments.text:llama_1b",
            "The shape of Llama 3.2 1B, for one node; synthetic tokens.",
        ),
        ExperimentRecord(
            "text.llama-7b",
            "axlearn_experiments.text:llama_7b",
            "The shape of Llama 2 7B, for a pod; synthetic tokens.",
        ),
    ]
