"""What checkpoints a run's directory holds. Works without a device, and without jax."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, NamedTuple

from axlearn_core.checkpoint.manifest import damage, is_complete
from axlearn_core.errors import UserError

FOLDER = "checkpoints"
_DAMAGED = "damaged"
Status = Literal["complete", "incomplete", "damaged"]


class CheckpointInfo(NamedTuple):
    """A checkpoint on disk; `problem` says why it is damaged."""

    step: int
    path: Path
    status: Status
    problem: str = ""

    @property
    def bytes(self) -> int:
        """The size on disk."""
        return sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())


def step_folder(directory: Path, step: int) -> Path:
    """Returns where the checkpoint of a step is kept."""
    return directory / FOLDER / f"{step:08d}"


def checkpoints(directory: Path, *, verify: bool = False) -> list[CheckpointInfo]:
    """Lists a run's checkpoints by step. With `verify`, reads every byte to find damage."""
    found = []
    for path in sorted((directory / FOLDER).glob("[0-9]*")):
        number, _, mark = path.name.partition(".")
        if not (path.is_dir() and number.isdigit()):
            continue
        step = int(number)
        if mark.startswith(_DAMAGED):
            problem = damage(path) if verify else None
            found.append(CheckpointInfo(step, path, "damaged", problem or "set aside"))
        elif not is_complete(path):
            found.append(CheckpointInfo(step, path, "incomplete"))
        elif verify and (problem := damage(path)):
            found.append(CheckpointInfo(step, path, "damaged", problem))
        else:
            found.append(CheckpointInfo(step, path, "complete"))
    return found


class Newest(NamedTuple):
    """The newest intact checkpoint, if there is one, and the newer ones that are damaged."""

    info: CheckpointInfo | None
    damaged: list[CheckpointInfo]


def newest_intact(directory: Path) -> Newest:
    """Finds the checkpoint to go on from, reading every byte of it."""
    bad: list[CheckpointInfo] = []
    for info in reversed(checkpoints(directory)):
        if info.status != "complete":
            continue
        problem = damage(info.path)
        if problem is None:
            return Newest(info, bad)
        bad.append(info._replace(status="damaged", problem=problem))
    return Newest(None, bad)


def choose(directory: Path, step: int | None) -> Newest:
    """Finds the intact checkpoint of a step, or the newest.

    Raises:
        UserError: if there is none; the message lists what there is.
    """
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}; give that of a run (axl train --dir)")
    newest = newest_intact(directory) if step is None else _of_step(directory, step)
    if newest.info is not None:
        return newest
    if newest.damaged:
        problems = "".join(f"\n  step {bad.step}: {bad.problem}" for bad in newest.damaged)
        raise UserError(f"{directory} holds no intact checkpoint:{problems}")
    steps = [str(info.step) for info in checkpoints(directory) if info.status == "complete"]
    there = f"complete are those of the steps {', '.join(steps)}" if steps else "it has none"
    wanted = "complete checkpoint" if step is None else f"complete checkpoint of step {step}"
    raise UserError(f"{directory} holds no {wanted}; {there}")


def _of_step(directory: Path, step: int) -> Newest:
    for info in checkpoints(directory):
        if info.step == step and info.status == "complete":
            if problem := damage(info.path):
                return Newest(None, [info._replace(status="damaged", problem=problem)])
            return Newest(info, [])
    return Newest(None, [])


def set_aside(info: CheckpointInfo) -> Path:
    """Renames a damaged checkpoint, so that it is neither used nor deleted."""
    target = info.path.with_name(f"{info.path.name}.{_DAMAGED}")
    number = 1
    while target.exists():
        number += 1
        target = info.path.with_name(f"{info.path.name}.{_DAMAGED}-{number}")
    return info.path.rename(target)


def remove_incomplete(directory: Path) -> list[int]:
    """Deletes what saves left that never came to their end; returns their steps."""
    incomplete = [info for info in checkpoints(directory) if info.status == "incomplete"]
    for info in incomplete:
        shutil.rmtree(info.path)
    return [info.step for info in incomplete]
