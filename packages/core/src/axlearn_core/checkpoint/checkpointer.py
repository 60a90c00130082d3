"""Saves and restores the train state while the run goes on.

A checkpoint is a folder: `state/` (Orbax, sharded), `run.json` (input state, config hash, plugin
fingerprint), the config, and a manifest with checksums that is written last. Without a manifest a
folder is no checkpoint, so a process may be killed at any point.
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import queue
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from axlearn_core.checkpoint.catalog import remove_old, step_folder
from axlearn_core.checkpoint.manifest import write_manifest
from axlearn_core.config import ConfigError, Configurable
from axlearn_core.errors import UserError
from axlearn_core.parallel import ProcessError, from_first, is_first, raise_together

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

STATE, RUN = "state", "run.json"
_MOST_PROBLEMS = 12  # arrays that an error lists
_logger = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint could not be written or read."""


class Checkpointer(Configurable):
    """Saves at a fixed distance and keeps the newest few.

    Every process of a run writes its part of the arrays; process 0 does the rest.
    """

    class Config(Configurable.Config):
        every: int | None = 1000  # steps between checkpoints; null saves only when the run ends
        keep: int = 3  # complete checkpoints to keep, at least 1

    def __init__(self, config: Config, *, directory: Path):
        super().__init__(config)
        if config.keep < 1:
            raise ConfigError(f"keep (={config.keep}) must be at least 1")
        if config.every is not None and config.every < 1:
            raise ConfigError(f"every (={config.every}) must be at least 1, or null")
        self._directory = directory.absolute()  # Orbax takes no other
        self._every = config.every
        self._keep = config.keep
        self._saver: ocp.AsyncCheckpointer | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: tuple[int, Future[Path]] | None = None
        self._saved: queue.SimpleQueue[tuple[int, Path]] = queue.SimpleQueue()

    def due(self, step: int) -> bool:
        """Whether the schedule asks for a checkpoint after this step."""
        return self._every is not None and step % self._every == 0

    def save(
        self, step: int, state: Any, facts: Mapping[str, Any], texts: Mapping[str, str]
    ) -> None:
        """Starts to save; returns as soon as the state is in host memory.

        Args:
            step: names the checkpoint.
            state: the train state.
            facts: small JSON, kept as `run.json`.
            texts: further files by name.

        Raises:
            CheckpointError: if this save or the one before cannot be written.
        """
        failure: CheckpointError | None = None
        try:
            self.wait()  # at most one copy of the state is in host memory
        except CheckpointError as error:
            failure = error
        raise_together(failure)
        folder = step_folder(self._directory, step)
        try:
            from_first(functools.partial(_make_empty, folder))
            self._orbax().save(folder / STATE, args=_save_args(flatten_state(state)))
        except ProcessError:  # which says it already
            raise
        except Exception as error:
            raise self._cannot_save(step, error) from error
        files = {RUN: json.dumps(facts, indent=1), **texts}
        job = self._worker.submit(self._finish, step, folder, files)
        self._under_way = (step, job)

    def poll(self) -> list[tuple[int, Path]]:
        """Returns (step, path) of saves that came to their end since the last call.

        Raises:
            CheckpointError: if one failed.
        """
        if self._under_way is not None and self._under_way[1].done():
            self.wait()
        done = []
        while not self._saved.empty():
            done.append(self._saved.get())
        return done

    def wait(self) -> None:
        """Waits for the save under way, if there is one."""
        if self._under_way is None:
            return
        step, job = self._under_way
        self._under_way = None
        try:
            self._saved.put((step, job.result()))
        except Exception as error:
            raise self._cannot_save(step, error) from error

    def close(self) -> None:
        """Waits for what is under way and frees the threads.

        A save that fails only now is logged: what ended the run matters more. Call `wait` before
        to learn of it.
        """
        try:
            self.wait()
        except CheckpointError as error:
            _logger.warning("%s", error)
        finally:
            self._worker.shutdown()
            if self._saver is not None:
                self._saver.close()
                self._saver = None

    def _finish(self, step: int, folder: Path, files: Mapping[str, str]) -> Path:
        self._orbax().wait_until_finished()
        if is_first():
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
            write_manifest(folder, {"step": step})
            remove_old(self._directory, self._keep)
        return folder

    def _orbax(self) -> ocp.AsyncCheckpointer:
        if self._saver is None:
            import orbax.checkpoint as ocp

            # What goes wrong is raised here. Orbax would log its traceback several times besides,
            # and asyncio those of the other arrays that were being written.
            for name in ("absl", "asyncio"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            self._saver = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())
        return self._saver

    def _cannot_save(self, step: int, error: Exception) -> CheckpointError:
        full = "RESOURCE_EXHAUSTED" in str(error) or getattr(error, "errno", None) == errno.ENOSPC
        reason = "the disk is full" if full else f"{type(error).__name__}: {error}"
        return CheckpointError(
            f"the checkpoint of step {step} could not be saved in {self._directory}: {reason}. "
            "Earlier checkpoints are intact. Make room (or fix the cause) and run the same command "
            "again: it goes on from the newest of them"
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
    import orbax.checkpoint as ocp

    folder = folder.absolute()
    wanted = flatten_state(like)
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        held = reader.metadata(folder / STATE)
        _check_same_arrays(folder, held.item_metadata, wanted)
        arrays = reader.restore(folder / STATE, args=ocp.args.StandardRestore(wanted))
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


def _make_empty(folder: Path) -> None:
    if folder.exists():  # left behind by a run that was killed while it saved
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _save_args(tree: dict[str, Any]) -> Any:
    import orbax.checkpoint as ocp

    return ocp.args.StandardSave(tree)
