"""What this package provides."""

from collections.abc import Sequence

from axlearn_core.plugins import CommandRecord, EvaluatorRecord, LayerRecord, hookimpl


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
            "axlearn_inference.caches.paged:PagedCache",
            "Keys and values in pages that sequences take as they grow, and may share.",
        ),
        LayerRecord(
            "sliding",
            "axlearn_inference.caches.sliding:SlidingCache",
            "A ring of as many slots as a mask's window.",
        ),
        LayerRecord(
            "int8",
            "axlearn_inference.caches.int8:Int8Cache",
            "Any cache, in eight bits per number.",
        ),
    ]


@hookimpl
def axlearn_commands() -> Sequence[CommandRecord]:
    """Commands of `axl`."""
    return [
        CommandRecord(
            "generate",
            "axlearn_inference.cli.generate:generate",
            "Let a model continue a text.",
        ),
        CommandRecord(
            "serve",
            "axlearn_inference.cli.serve:serve",
            "Serve a model over HTTP, and chat with it.",
        ),
    ]
