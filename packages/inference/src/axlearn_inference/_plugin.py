"""What this package provides."""

from collections.abc import Sequence

from axlearn_core.plugins import EvaluatorRecord, LayerRecord, hookimpl


@hookimpl
def axlearn_evaluators() -> Sequence[EvaluatorRecord]:
    """What `axl eval --tasks` runs."""
    return [
        EvaluatorRecord(
            "lm-eval",
            "axlearn_inference.evaluation.evaluate:evaluate",
            "Tasks of EleutherAI's lm-evaluation-harness.",
        ),
    ]


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
