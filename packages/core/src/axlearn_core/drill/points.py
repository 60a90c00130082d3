"""Places in a run's code at which a fault can strike: each is a function, and before or after it.

The code knows nothing of them. A child of the drill replaces the functions before it starts.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from axlearn_core.errors import UserError

START = "start"  # no function: when the child has imported what it needs


class DrillError(UserError):
    """A drill cannot be made."""


@dataclass(frozen=True)
class Point:
    """A function that a run calls.

    Attributes:
        target: module:name, or module:class.name.
        when: on which side of the call.
    """

    target: str
    when: Literal["before", "after"]


POINTS = {
    "as the directory is opened": Point(
        "axlearn_core.training.run_directory:_write_atomically", "before"
    ),
    "inside a restore": Point("axlearn_core.training.nearest:nearest_start", "before"),
    "during compile": Point("axlearn_core.training.program:Program.lower_train_step", "after"),
    "while a batch is placed": Point("axlearn_core.training.share:place_batch", "before"),
    "between prefetch and step": Point(
        "axlearn_core.training.prefetch:Prefetcher.__next__", "after"
    ),
    "after a step": Point("axlearn_core.observe.metrics:MetricsQueue.add", "before"),
    "as metrics are written": Point("axlearn_core.observe.writers:JsonlWriter.flush", "before"),
    "as a save begins": Point("axlearn_core.checkpoint.checkpointer:Checkpointer.save", "before"),
    "while arrays are written": Point(
        "axlearn_core.checkpoint.checkpointer:Checkpointer.save", "after"
    ),
    "before the manifest": Point("axlearn_core.checkpoint.manifest:write_manifest", "before"),
    "after the manifest": Point("axlearn_core.checkpoint.manifest:write_manifest", "after"),
    "while an old checkpoint is removed": Point(
        "axlearn_core.checkpoint.retention:remove_old", "before"
    ),
    "as the run ends": Point("axlearn_core.training.report:Report.finished", "before"),
}


def install(passed: Callable[[str], None]) -> None:
    """Calls `passed(name)` whenever the program comes by a point.

    Raises:
        DrillError: if a function is not there any more.
    """
    for name, point in POINTS.items():
        _wrap(point, functools.partial(passed, name))


def _wrap(point: Point, passed: Callable[[], None]) -> None:
    module_name, _, path = point.target.partition(":")
    *outer, name = path.split(".")
    try:
        owner: Any = importlib.import_module(module_name)
        for part in outer:
            owner = getattr(owner, part)
        original = getattr(owner, name)
    except (ImportError, AttributeError) as error:
        raise DrillError(f"there is no {point.target}, a point of the drill: {error}") from error

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if point.when == "before":
            passed()
        result = original(*args, **kwargs)
        if point.when == "after":
            passed()
        return result

    setattr(owner, name, wrapped)
    if not outer:  # others have imported the function by its name
        for module in list(sys.modules.values()):
            if module.__name__.startswith("axlearn_") and vars(module).get(name) is original:
                setattr(module, name, wrapped)
