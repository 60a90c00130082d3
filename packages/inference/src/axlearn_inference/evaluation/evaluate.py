"""Evaluates checkpoints on tasks of the lm-evaluation-harness (Gao et al., EleutherAI)."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from typing import Any

from axlearn_core.checkpoint import CheckpointInfo
from axlearn_core.config import near_names
from axlearn_core.errors import UserError
from axlearn_core.training.evaluator import Scores, TaskRequest

# A text's longest, in tokens, where the model does not tell; it is the harness's.
_MAX_LENGTH = 2048


def evaluate(checkpoint: CheckpointInfo, request: TaskRequest) -> Scores:
    """Scores a checkpoint; an `axlearn_core.training.evaluator.Evaluator`.

    With `request.include_path` nothing is downloaded. Without, the harness knows its own tasks, and
    gets their data from where they are published.

    Raises:
        UserError: if the harness is not installed, or does not know a task.
    """
    harness, manager = find_tasks(request)
    from axlearn_inference.decoding import complete
    from axlearn_inference.evaluation.harness import HarnessModel
    from axlearn_inference.loading import load_checkpoint

    model = load_checkpoint(checkpoint, overrides=request.overrides)
    asked = HarnessModel(
        model,
        lambda requests: [each.text for each in complete(model, requests)],
        batch_size=request.batch_size,
        max_length=model.max_length or _MAX_LENGTH,
    )
    return evaluate_model(asked, request, harness, manager)


def evaluate_model(model: Any, request: TaskRequest, harness: Any, manager: Any) -> Scores:
    """Runs the harness on a model of its interface; returns numbers by task and metric."""
    found = harness.simple_evaluate(
        model=model,
        tasks=list(request.tasks),
        num_fewshot=request.num_fewshot,
        limit=request.limit,
        task_manager=manager,
        apply_chat_template=request.apply_chat_template,
        fewshot_as_multiturn=request.fewshot_as_multiturn,
        system_instruction=request.system_instruction,
        log_samples=False,
        bootstrap_iters=1000,
    )
    return {task: _numbers(metrics) for task, metrics in found["results"].items()}


def find_tasks(request: TaskRequest) -> tuple[Any, Any]:
    """Imports the harness; returns it, and what knows the tasks.

    Raises:
        UserError: if it is not installed, or does not know a task.
    """
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # it would fork, which threads of jax forbid
    own = request.include_path
    if own is not None:
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    try:
        harness = importlib.import_module("lm_eval")
        tasks = importlib.import_module("lm_eval.tasks")
    except ModuleNotFoundError as error:
        raise UserError(
            "lm-eval, which knows the tasks, is not installed: pip install "
            "'axlearn-inference[eval]'"
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = tasks.TaskManager(
        include_path=None if own is None else str(own), include_defaults=own is None
    )
    for name in request.tasks:
        if name not in manager.all_tasks:
            near = near_names(name, manager.all_tasks)
            if own is None:
                raise UserError(f"lm-eval has no task {name!r}.{near}")
            there = ", ".join(manager.all_tasks) or "none"
            raise UserError(f"{own} has no task {name!r}.{near} There are: {there}")
    return harness, manager


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Keeps values, named as the harness does: metric, or metric and filter."""
    return {
        name.removesuffix(",none"): float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and "," in name
    }
