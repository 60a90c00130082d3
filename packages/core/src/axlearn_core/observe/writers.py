"""Where metrics go."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from axlearn_core.config import Configurable
from axlearn_core.errors import UserError
from axlearn_core.observe.line_file import LineFile

Kind = Literal["train", "eval", "performance"]
_logger = logging.getLogger(__name__)


class Postponed(Exception):
    """A record could not be written now, and will be later."""


class Writer(Configurable):
    """Receives the values of a run, in the order of its steps."""

    class Config(Configurable.Config):
        """A writer's fields."""

    def open(self, directory: Path, *, after_step: int) -> None:
        """Prepares to write a run that goes on after a step (0: that begins).

        Values that an earlier, interrupted attempt wrote for later steps are to be dropped: those
        steps are made again.
        """
        raise NotImplementedError(type(self))

    def write(self, step: int, kind: Kind, values: Mapping[str, float]) -> None:
        """Records the values of a step. `performance` values differ from run to run."""
        raise NotImplementedError(type(self))

    def flush(self) -> None:
        """Makes everything written so far survive the end of the process."""

    def close(self) -> None:
        """Ends writing."""


def qualified(name: str, kind: Kind) -> str:
    """Returns the name under which a value stands among those of all kinds: "train/loss"."""
    return name if "/" in name else f"{kind}/{name}"


def missing_package(writer: str) -> UserError:
    """Returns the error of a writer whose package is not installed; its extra has its name."""
    return UserError(
        f"the {writer} writer needs a package that is not installed: "
        f"pip install 'axlearn-core[{writer}]'"
    )


class JsonlWriter(Writer):
    """Writes `metrics.jsonl` and `performance.jsonl`, an object per record.

    `metrics.jsonl` holds what a rerun reproduces bit for bit (floats are written so that they read
    back to the same bits); speed and memory go to the other file. What cannot be written waits in
    memory, in its order, while `flush` fails, and with it every save: so no checkpoint is ahead of
    the records, and those that a run ends without are of steps that are made again.
    """

    def open(self, directory: Path, *, after_step: int) -> None:
        self._files: dict[str, LineFile] = {}
        self._failing = False
        for name in ("metrics", "performance"):
            path = directory / f"{name}.jsonl"
            _truncate(path, after_step)
            self._files[name] = LineFile(path)

    def write(self, step: int, kind: Kind, values: Mapping[str, float]) -> None:
        """Records the values of a step.

        Raises:
            Postponed: if they have to wait, for the first that do.
            UserError: if too many wait.
        """
        file = self._files["performance" if kind == "performance" else "metrics"]
        try:
            file.add(json.dumps({"step": step, **values}))
        except OSError as error:
            if file.is_full:
                raise _cannot_write(file, error) from error
            if not self._failing:
                self._failing = True
                raise Postponed(
                    f"cannot write {file.path}: {error.strerror}. Training goes on; the records "
                    "wait in memory until it can be written, and saves fail until then"
                ) from error
        else:
            self._failing = False

    def flush(self) -> None:
        """Puts all records on disk.

        Raises:
            UserError: if that fails; they wait.
        """
        for file in self._files.values():
            try:
                file.flush()
            except OSError as error:
                raise _cannot_write(file, error) from error

    def close(self) -> None:
        for file in self._files.values():
            try:
                file.close()
            except OSError as error:
                _logger.warning(
                    "the last records of %s could not be written: %s. They are of steps after the "
                    "last checkpoint, which are made again",
                    file.path,
                    error.strerror,
                )


def _cannot_write(file: LineFile, error: OSError) -> UserError:
    return UserError(
        f"cannot write {file.path}: {error.strerror}. Make room (or fix the cause) and run the "
        "same command again"
    )


def _truncate(path: Path, after_step: int) -> None:
    """Drops the records of steps that will be made again, and a last line cut short by a kill."""
    if not path.exists():
        return
    kept = 0
    with path.open("rb") as lines:
        for line in lines:
            try:
                step = json.loads(line)["step"]
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n") or step > after_step:
                break
            kept += len(line)
    with path.open("rb+") as file:
        file.truncate(kept)


class TensorBoardWriter(Writer):
    """Writes event files below `tensorboard/`, for `tensorboard --logdir`, one for each attempt.

    `tensorboardX.SummaryWriter` would lose what its queue holds when it is flushed, and the whole
    file when another attempt begins within the same second.
    """

    def open(self, directory: Path, *, after_step: int) -> None:
        try:
            from tensorboardX import RecordWriter
        except ImportError:
            raise missing_package("tensorboard") from None
        from tensorboardX.proto.event_pb2 import SessionLog

        folder = directory / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names.
        path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._records: Any = RecordWriter(str(path))
        self._add(file_version="brain.Event:2")
        # TensorBoard hides what an interrupted attempt wrote from this step on.
        self._add(step=after_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, kind: Kind, values: Mapping[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        named = [
            Summary.Value(tag=qualified(name, kind), simple_value=value)
            for name, value in values.items()
        ]
        self._add(step=step, summary=Summary(value=named))

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _add(self, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
