"""Saves and restores the train state while the run goes on.

A checkpoint is a folder: `state/` (Orbax, a file per shard), `run.json` (input state, config hash,
plugin fingerprint, metrics), the config, and a manifest with checksums that is written last.
Without a manifest a folder is no checkpoint, so a process may be killed at any point.
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import queue
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from axlearn_core.checkpoint.arrays import STATE
from axlearn_core.checkpoint.catalog import checkpoints, step_folder
from axlearn_core.checkpoint.manifest import is_complete, write_manifest
from axlearn_core.checkpoint.retention import Retention, remove_old
from axlearn_core.checkpoint.schedule import Schedule
from axlearn_core.checkpoint.store import Store, StoreError, check_store
from axlearn_core.config import ConfigError, Configurable
from axlearn_core.errors import UserError
from axlearn_core.parallel import from_first, is_first, raise_together

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

RUN = "run.json"
_LONG = 1.0  # seconds of waiting that are worth a line
_MOST_PROBLEMS = 12  # arrays that an error lists
_logger = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint could not be written or read."""


class Checkpointer(Configurable):
    """Saves by a schedule, keeps what its rules name, and bears a storage that fails now and then.

    Every process of a run writes its part of the arrays; process 0 does the rest.
    """

    class Config(Configurable.Config):
        every: int | None = 1000  # steps between checkpoints; null saves only when the run ends
        every_minutes: float | None = None  # besides: since the last save began
        keep: int = 3  # the newest complete checkpoints to keep, at least 1
        keep_every: int | None = None  # besides: all whose step is a multiple of this
        keep_best: int = 0  # besides: so many of those that were evaluated at their step
        best_metric: str = ""  # by which they are the best, such as "held_out/loss"
        best_is_highest: bool = False  # for a metric other than a loss
        failures: int = 2  # saves in a row that may fail; one more ends the run
        put_off: bool = False  # a save that is due while another is written waits, not the step
        store: str | None = None  # s3://bucket/prefix or gs://...: a second copy of each checkpoint

    def __init__(
        self,
        config: Config,
        *,
        directory: Path,
        say: Callable[[str], None] = _logger.warning,
        fault: Callable[[str, str], None] = lambda kind, message: None,
    ):
        super().__init__(config)
        _check(config)
        self._directory = directory.absolute()  # Orbax takes no other
        self._retention = Retention(
            config.keep,
            config.keep_every,
            config.keep_best,
            config.best_metric,
            config.best_is_highest,
        )
        self._store = None if config.store is None else Store(config.store)
        self._say = say
        self._fault = fault
        self._schedule = Schedule(config.every, config.every_minutes)
        self._saver: ocp.AsyncCheckpointer | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: tuple[int, Future[Path]] | None = None
        self._saved: queue.SimpleQueue[tuple[int, Path]] = queue.SimpleQueue()
        self._failure: CheckpointError | None = None
        self._succeeded: int | None = None  # the step of a save whose end others may not know
        self._complete: int | None = None  # the step of the last save that all know of
        self._written: int | None = None  # the step of the last one on the disk, on process 0
        self._failed = 0  # saves in a row, the same number on every process

    def due(self, step: int) -> bool:
        """Whether to save after this step. Ask once after every step, on every process."""
        due = self._schedule.due(step)
        if due and self.config.put_off and from_first(self._is_busy):
            self._schedule.put_off()
            return False
        return due

    def save(
        self,
        step: int,
        state: Any,
        facts: Mapping[str, Any],
        texts: Mapping[str, str],
        *,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts to save; returns as soon as the state is in host memory.

        A save that fails, this one or the one before, is said, and the next one that is due tries
        again.

        Args:
            step: names the checkpoint.
            state: the train state.
            facts: small JSON, kept as `run.json`.
            texts: further files by name.
            before: what must have been done before, on process 0; if it fails, the save has.

        Raises:
            CheckpointError: if more saves in a row have failed than `failures` allows.
        """
        files = {RUN: json.dumps(facts, indent=1), **texts}
        self._wait_for_previous()
        self._settle()
        self._start(step, state, files, before)

    def save_last(
        self,
        step: int,
        state: Any,
        facts: Mapping[str, Any],
        texts: Mapping[str, str],
        *,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Saves, unless it is done, and waits for the end; tries again where that fails.

        Raises:
            CheckpointError: if more saves in a row have failed than `failures` allows.
        """
        files = {RUN: json.dumps(facts, indent=1), **texts}
        self.wait()
        while self._complete != step:
            if self._start(step, state, files, before):
                self.wait()

    def poll(self) -> list[tuple[int, Path]]:
        """Returns (step, path) of saves that came to their end since the last call."""
        if self._under_way is not None and self._under_way[1].done():
            self._collect()
        done = []
        while not self._saved.empty():
            done.append(self._saved.get())
        return done

    def wait(self) -> None:
        """Waits for the save under way, if there is one. Call it on every process.

        Raises:
            CheckpointError: if more saves in a row have failed than `failures` allows.
        """
        self._collect()
        self._settle()

    def close(self) -> None:
        """Waits for what is under way and frees the threads.

        A save that fails only now is told: what ended the run matters more.
        """
        self._collect()
        if self._failure is not None:
            self._say(str(self._failure))
        self._worker.shutdown()
        if self._saver is not None:
            self._saver.close()
            self._saver = None

    def _start(
        self, step: int, state: Any, files: Mapping[str, str], before: Callable[[], None]
    ) -> bool:
        """Copies the state to the host; returns whether every process could."""
        folder = step_folder(self._directory, step)
        self._schedule.began()
        try:
            if from_first(functools.partial(self._make_room, step, folder, before)):
                self._orbax().save(folder / STATE, args=_save_args(flatten_state(state)))
        except Exception as error:
            self._failure = self._cannot_save(step, error)
        else:
            self._under_way = (step, self._worker.submit(self._finish, step, folder, files))
        return self._settle()

    def _wait_for_previous(self) -> None:
        """At most one copy of the state is in host memory."""
        if self._under_way is None:
            return
        step, start = self._under_way[0], time.monotonic()
        self._collect()
        waited = time.monotonic() - start
        if waited > _LONG:
            self._say(
                f"waited {waited:.0f} s until the checkpoint of step {step} was written: save less "
                "often (checkpoint.every), or put saves off (checkpoint.put_off=true)"
            )

    def _collect(self) -> None:
        """Waits for the save under way, and remembers how it ended."""
        if self._under_way is None:
            return
        step, job = self._under_way
        self._under_way = None
        try:
            self._saved.put((step, job.result()))
            self._succeeded = step
        except Exception as error:
            self._failure = self._cannot_save(step, error)

    def _settle(self) -> bool:
        """Lets all processes know whether a save of one has failed; returns whether none has."""
        failure, succeeded = self._failure, self._succeeded
        self._failure, self._succeeded = None, None
        try:
            raise_together(failure)
        except UserError as error:
            self._failed += 1
            if self._failed <= self.config.failures:
                line = (
                    f"{error}. Training goes on, and the next save tries again (failure "
                    f"{self._failed} in a row; checkpoint.failures={self.config.failures})"
                )
                self._say(line)
                self._fault("save_failed", line)
                return False
            raise CheckpointError(
                f"{error}. Earlier checkpoints are intact. Make room (or fix the cause) and run "
                "the same command again: it goes on from the newest of them"
            ) from error
        if succeeded is not None:
            self._failed, self._complete = 0, succeeded
        return True

    def _is_busy(self) -> bool:
        return self._under_way is not None and not self._under_way[1].done()

    def _make_room(self, step: int, folder: Path, before: Callable[[], None]) -> bool:
        """Returns whether the state is to be written: not if only the store lacks it."""
        before()
        if self._written == step:
            return False
        if folder.exists():  # left behind by a run that was killed while it saved
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return True

    def _finish(self, step: int, folder: Path, files: Mapping[str, str]) -> Path:
        self._orbax().wait_until_finished()
        if not is_first():
            return folder
        if self._written != step:
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
            write_manifest(folder, step)
            self._written = step
            remove_old(self._directory, self._retention)
        if self._store is not None:
            self._copy(self._store, step)
        return folder

    def _copy(self, store: Store, newest: int) -> None:
        """Copies what the store lacks, and deletes there what no rule keeps."""
        there = set(store.steps()) - {newest}  # which may be of before this session
        for info in checkpoints(self._directory):
            if info.status == "complete" and info.step not in there:
                store.upload(info.path, info.step)
        for step in self._retention.outdated(store.steps(), store.facts):
            store.remove(step)

    def _orbax(self) -> ocp.AsyncCheckpointer:
        if self._saver is None:
            import orbax.checkpoint as ocp

            # What goes wrong is raised here. Orbax would log its traceback several times besides,
            # and asyncio those of the other arrays that were being written.
            for name in ("absl", "asyncio"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            self._saver = ocp.AsyncCheckpointer(_handler())
        return self._saver

    def _cannot_save(self, step: int, error: Exception) -> CheckpointError:
        folder = step_folder(self._directory, step)
        if is_first() and not is_complete(folder):  # makes room
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, StoreError):
            return CheckpointError(f"the checkpoint of step {step} was not copied: {error}")
        full = "RESOURCE_EXHAUSTED" in str(error) or getattr(error, "errno", None) == errno.ENOSPC
        known = error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        reason = "the disk is full" if full else str(known)
        return CheckpointError(
            f"the checkpoint of step {step} could not be saved in {self._directory}: {reason}"
        )


def _check(config: Checkpointer.Config) -> None:
    if config.keep < 1:
        raise ConfigError(f"keep (={config.keep}) must be at least 1")
    for name in ("every", "keep_every"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} (={value}) must be at least 1, or null")
    if config.every_minutes is not None and config.every_minutes <= 0:
        raise ConfigError(f"every_minutes (={config.every_minutes}) must be above 0, or null")
    if config.store is not None:
        check_store(config.store)
    if config.keep_best < 0 or config.failures < 0:
        raise ConfigError("keep_best and failures must be at least 0")
    if (config.keep_best > 0) != bool(config.best_metric):
        raise ConfigError(
            "keep_best and best_metric need each other: keep_best=2 best_metric=held_out/loss, got "
            f"keep_best={config.keep_best} best_metric={config.best_metric!r}"
        )


def check_metric(config: Checkpointer.Config, evaluations: Collection[str]) -> None:
    """Raises a ConfigError if no evaluation gives the metric by which checkpoints are the best."""
    kind, _, name = config.best_metric.partition("/")
    if config.best_metric and not (name and kind in {"train", *evaluations}):
        raise ConfigError(
            f"checkpoint.best_metric={config.best_metric!r} must be a value of an evaluation, such "
            f"as held_out/loss, or of train; there are {', '.join(sorted(evaluations)) or 'none'}"
        )


def restore(folder: Path, like: Any) -> Any:
    """Reads a train state.

    Args:
        folder: of an intact checkpoint.
        like: a tree of `jax.ShapeDtypeStruct` with shardings; the arrays are placed as it says,
            on any mesh.

    Raises:
        CheckpointError: if the checkpoint holds other arrays than `like`.
    """
    return _read(folder, like, whole=True)


def restore_part(folder: Path, like: Any) -> Any:
    """Reads those arrays of a train state that are in a tree, and no byte of the others.

    Args:
        folder: of an intact checkpoint.
        like: as that of `restore`, with None for what is not wanted. An array comes in the dtype
            that is asked for, cast as it is read.

    Raises:
        CheckpointError: if an array is not there, or has another shape.
    """
    return _read(folder, like, whole=False)


def _read(folder: Path, like: Any, *, whole: bool) -> Any:
    import orbax.checkpoint as ocp

    # Checkpoints that Orbax has not written lack its notes to itself, of which it would warn.
    logging.getLogger("absl").setLevel(logging.ERROR)
    folder = folder.absolute()
    wanted = flatten_state(like)
    with ocp.Checkpointer(_handler()) as reader:
        held = reader.metadata(folder / STATE).item_metadata
        if whole:
            _check_same_arrays(folder, held, wanted)
        else:
            asked = {
                n: jax.ShapeDtypeStruct(x.shape, held[n].dtype)
                for n, x in wanted.items()
                if n in held
            }
            _check_same_arrays(folder, {n: held[n] for n in asked}, {**wanted, **asked})
        arguments = ocp.checkpoint_utils.construct_restore_args(wanted)
        args = ocp.args.PyTreeRestore(
            item=wanted, restore_args=arguments, partial_restore=not whole
        )
        arrays = reader.restore(folder / STATE, args=args)
    leaves = [arrays[name] for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _check_same_arrays(folder: Path, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    problems = [f"{name} is not in the checkpoint" for name in wanted if name not in held]
    problems += [f"{name} is only in the checkpoint" for name in held if name not in wanted]
    problems += [
        f"{name} is {_described(held[name])}, expected {_described(value)}"
        for name, value in wanted.items()
        if name in held and _described(held[name]) != _described(value)
    ]
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:_MOST_PROBLEMS])
        if len(problems) > _MOST_PROBLEMS:
            shown += f"\n  ... and {len(problems) - _MOST_PROBLEMS} more"
        raise CheckpointError(
            f"{folder} holds another model or learner:{shown}\n"
            "Use the config that the run was started with (`axl config diff`), or another --dir"
        )


def _described(array: Any) -> str:
    return f"{jnp.dtype(array.dtype).name}{list(array.shape)}"


def read_facts(folder: Path) -> dict[str, Any]:
    """Returns the small JSON that was saved with a checkpoint.

    Raises:
        CheckpointError: if it is none.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
        held = {name: dict(facts[name]) for name in ("input", "input_description", "plugins")}
        return {**facts, **held}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / RUN} cannot be read ({error!r}). Move {folder} away to use the checkpoint "
            "before"
        ) from error


def flatten_state(state: Any) -> dict[str, Any]:
    """Names every array of a state by its path, such as `params.decoder.norm.scale`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _handler() -> ocp.PyTreeCheckpointHandler:
    """A file of plain bytes for each shard, so that damage has a name; old layouts are read."""
    import orbax.checkpoint as ocp

    return ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False)


def _save_args(tree: dict[str, Any]) -> Any:
    import orbax.checkpoint as ocp

    return ocp.args.PyTreeSave(tree)
