"""`axl config show EXP --plot PATH`: a schedule as a curve."""

from __future__ import annotations

import shutil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from axlearn_core.cli.text import table
from axlearn_core.config import ConfigBase, ConfigError
from axlearn_core.observe.chart import line_chart

_WIDEST = 100  # columns; on a wider terminal a curve looks flat
_MOST_POINTS = 1000  # of JSON; a run can have millions of steps


class Curve(NamedTuple):
    """A schedule's value at every step.

    Attributes:
        path: where the schedule is in the config.
        values: of step 0, 1, ... to the last of the schedule, or of the run if that is longer.
        key_points: what is remarkable, by step.
    """

    path: str
    values: NDArray[np.float32]
    key_points: dict[int, str]

    def text(self) -> str:
        """Returns a chart as wide as the terminal, and the key points below it."""
        width = min(shutil.get_terminal_size((80, 24)).columns, _WIDEST)
        rows = [(str(s), f"{self.values[s]:.4g}", name) for s, name in self.key_points.items()]
        chart = line_chart(self.values, width)
        return f"{self.path}\n\n{chart}\n\n{table(('step', 'value', ''), rows)}"

    def json(self) -> dict[str, Any]:
        """Returns the key points, and at most 1000 points that are evenly apart."""
        count = min(len(self.values), _MOST_POINTS)
        steps = np.linspace(0, len(self.values) - 1, count).round().astype(int)
        return {
            "path": self.path,
            "key_points": [
                {"name": name, "step": step, "value": float(self.values[step])}
                for step, name in self.key_points.items()
            ],
            "points": [[int(step), float(self.values[step])] for step in steps],
        }


def curve(cfg: ConfigBase, path: str) -> Curve:
    """Computes the schedule at a path of a trainer's config.

    Raises:
        ConfigError: if there is none, if nothing says how long it is, or if it is not finite.
    """
    import jax

    from axlearn_core.training.schedule import build_schedule

    schedule = build_schedule(cfg, path)
    max_step: int | None = getattr(cfg, "max_step", None)
    length = max(schedule.config.total_steps or 0, max_step or 0)
    if not length:
        raise ConfigError(f"{path} has no length; set its total_steps")
    values = np.asarray(jax.vmap(schedule)(jax.numpy.arange(length)), np.float32)
    if not np.isfinite(values).all():
        step = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ConfigError(f"{path} is {values[step]} at step {step}; it must be finite")
    return Curve(path, values, key_points(values, max_step))


def key_points(values: NDArray[np.float32], max_step: int | None = None) -> dict[int, str]:
    """Returns what is remarkable by step: the start, the warm-up's end, the peak, and the end.

    The warm-up is a rise from the first step on. A peak that lasts has two steps.
    """
    last, peak = len(values) - 1, int(values.argmax())
    falls = np.flatnonzero(np.diff(values) < 0)
    risen = int(values[: falls[0] + 1 if len(falls) else None].argmax())
    below = np.flatnonzero(values[peak:] < values[peak])
    points = [(0, "start")]
    if risen:
        points.append((risen, "end of warm-up"))
    points.append((peak, "peak"))
    if len(below) and below[0] > 1:
        points.append((peak + int(below[0]) - 1, "end of peak"))
    if max_step and max_step <= last:
        points.append((max_step - 1, "last update (max_step)"))
    points.append((last, "end"))
    names: dict[int, str] = {}
    for step, name in sorted(points, key=lambda point: point[0]):
        names[step] = f"{names[step]}, {name}" if step in names else name
    return names
