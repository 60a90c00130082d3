"""What `axl eval --tasks` asks of a plugin. Nothing here imports jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from axlearn_core.checkpoint import CheckpointInfo

Scores = Mapping[str, Mapping[str, float]]
"""By task and metric."""


@dataclass(frozen=True)
class TaskRequest:
    """What to evaluate.

    Attributes:
        tasks: names that the evaluator knows.
        overrides: `path=value` words for the run's config.
        limit: how many examples of each task at most; None is all.
        batch_size: examples that are computed together.
        num_fewshot: solved examples before each question; None leaves it to the task.
        include_path: a folder with tasks of one's own. Then no others are looked for, and nothing
            is downloaded.
        apply_chat_template: whether to write questions as messages, by the model's chat template.
        fewshot_as_multiturn: then, solved examples are messages and answers before the question;
            else all of them are in one message.
        system_instruction: what stands before all others; without a template, as text.
    """

    tasks: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    limit: int | None = None
    batch_size: int = 8
    num_fewshot: int | None = None
    include_path: Path | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None


class Evaluator(Protocol):
    """Scores a checkpoint."""

    def __call__(self, checkpoint: CheckpointInfo, request: TaskRequest) -> Scores:
        """Returns the scores of the asked tasks.

        Raises:
            UserError: for a task that it does not know, or a model that it cannot evaluate.
        """
        ...
