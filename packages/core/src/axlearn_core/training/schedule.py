"""What core needs of a schedule, and which length the one at a path of a config has."""

from __future__ import annotations

from typing import Any, cast

import jax

from axlearn_core.config import ConfigBase, ConfigError, Configurable, find, near_names

Step = int | jax.Array


class Schedule(Configurable):
    """A function from step to value, such as a learning rate."""

    class Config(Configurable.Config):
        total_steps: int | None = None  # length of the run; None: that of the learner

    def __call__(self, step: Step) -> jax.Array:
        """Returns the value, [] float32, of the update with `step` updates before it."""
        raise NotImplementedError(type(self))


def give_length(cfg: ConfigBase, total_steps: int | None) -> None:
    """Writes the run's length into schedules of a tree that lack one.

    A schedule within another one is left to that one.
    """
    for _, schedule in _outermost(cfg):
        if schedule.total_steps is None:
            schedule.total_steps = total_steps


def build_schedule(cfg: ConfigBase, path: str) -> Schedule:
    """Builds the schedule at a path of a trainer's config, as long as in training.

    Its length is its own, else the `total_steps` of the nearest config around it that has one (a
    learner), else the trainer's `max_step`. Within another schedule it is what that one gives it.

    Raises:
        ConfigError: if there is no schedule at the path, with the paths that have one; or if it
            cannot be built.
    """
    nodes = dict(find(cfg, Schedule))
    if path not in nodes:
        there = f"The schedules are: {', '.join(nodes)}" if nodes else "There is none in all of it"
        raise ConfigError(f"no schedule at {path!r}.{near_names(path, nodes)} {there}")
    outer, config = next(item for item in _outermost(cfg) if _is_in(path, item[0]))
    try:
        built: Schedule = config.clone(total_steps=_length(cfg, outer)).instantiate()
        if path != outer:
            inner = dict(find(built.config, Schedule))[path.removeprefix(f"{outer}.")]
            built = inner.instantiate()
    except ConfigError as error:
        raise ConfigError(f"{outer}: {error}") from error
    return built


def _outermost(cfg: ConfigBase) -> list[tuple[str, Schedule.Config]]:
    found: list[tuple[str, Schedule.Config]] = []
    for path, node in find(cfg, Schedule):  # parents first
        if not any(_is_in(path, outer) for outer, _ in found):
            found.append((path, cast(Schedule.Config, node)))
    return found


def _is_in(path: str, outer: str) -> bool:
    return f"{path}.".startswith(f"{outer}.")


def _length(cfg: ConfigBase, path: str) -> int | None:
    length: Any = getattr(cfg, "max_step", None)
    for outer, node in find(cfg, ConfigBase):  # parents first, so the nearest comes last
        if outer and _is_in(path, outer):
            length = getattr(node, "total_steps", None) or length
    return cast(int | None, length)
