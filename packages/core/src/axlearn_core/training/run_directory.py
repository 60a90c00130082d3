"""The directory of a run: one run at a time, and never another experiment's.

It holds `run.json` (the config's values and how it was made), `metrics.jsonl`,
`performance.jsonl`, `events.jsonl` and `checkpoints/`. All processes of a run share it; process 0
holds its lock, and writes all but the arrays of checkpoints.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from axlearn_core.config import ConfigBase, Difference
from axlearn_core.config.text import canonical, flat
from axlearn_core.errors import UserError
from axlearn_core.parallel import from_first, is_first, raise_together

RUN = "run.json"
CONFIG = "config.json"
_SHARED_WITHIN = 60  # seconds in which a network file system must show what another host wrote

# What may change between two sessions of one run, because no earlier step depends on it.
FREE_TO_CHANGE = (
    "max_step",
    "log_every",
    "checkpoint.*",
    "checkpoint",
    "input.damaged",
    "guards",
    "guards.*",
    "copies.*",
    "copies",
    "evaluations",
    "evaluations.*",
    "writers",
    "writers.*",
    "mesh_shape",
    "slow_mesh_shape",
    "sharding_rules",
    "sharding_rules.*",
    "offload_optimizer",
    "model.*.remat",
    "model.*.remat.*",
    "compile_cache",
    "profile",
    "profile.*",
)


class RunDirectoryError(UserError):
    """The directory cannot be used for this run."""


class RunDirectory(NamedTuple):
    """A directory that this run has locked.

    Attributes:
        path: where it is.
        changes: values that differ from the session before.
        is_new: whether no run was here before.
        accept_changes: whether to go on though the run differs from what it was.
    """

    path: Path
    changes: list[Difference]
    is_new: bool
    accept_changes: bool = False


@contextlib.contextmanager
def open_run(
    path: Path, config: ConfigBase, facts: Mapping[str, Any], *, accept_changes: bool = False
) -> Iterator[RunDirectory]:
    """Locks the directory for the run that `config` describes, creating it if need be.

    Args:
        path: of the directory.
        config: of the run.
        facts: what else to remember of it.
        accept_changes: whether also what earlier steps depend on may differ.

    Raises:
        RunDirectoryError: if it cannot be written, another run trains in it, it holds a run of
            another config (the differences are listed), or the processes of this one do not all see
            the same directory.
    """
    with contextlib.ExitStack() as stack:
        session, is_new, changes = from_first(
            lambda: stack.enter_context(_locked(path, config, facts, accept_changes))
        )
        raise_together(None if is_first() else _not_shared(path, session))
        differences = [Difference(*change) for change in changes]
        yield RunDirectory(path, differences, is_new, accept_changes)


@contextlib.contextmanager
def _locked(
    path: Path, config: ConfigBase, facts: Mapping[str, Any], accept_changes: bool
) -> Iterator[tuple[str, bool, list[Difference]]]:
    """Does the work of process 0: gives the session's name, and what `RunDirectory` tells."""
    with _writing(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("a+")
    with lock:
        _lock(lock.fileno(), path)
        is_new = not (path / RUN).exists()
        changes = [] if is_new else _compare(path, config, accept_changes)
        session = uuid.uuid4().hex
        with _writing(path):
            _write_atomically(path / RUN, {**facts, "session": session, "config": flat(config)})
        yield session, is_new, changes


def _not_shared(path: Path, session: str) -> RunDirectoryError | None:
    """Returns an error if process 0 has written to a directory that is not the one seen here."""
    deadline = time.monotonic() + _SHARED_WITHIN
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            if json.loads((path / RUN).read_text(encoding="utf-8"))["session"] == session:
                return None
        time.sleep(0.2)
    return RunDirectoryError(
        f"{path.absolute()} on {socket.gethostname()} is not the directory that process 0 writes "
        "to. All processes need one that they share, such as on a network file system: choose "
        "another --dir"
    )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write to {path}: {error.strerror}. Choose another --dir, or make room there, "
            "or change its owner or permissions"
        ) from error


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = os.read(descriptor, 32).decode() or "unknown"
        raise RunDirectoryError(
            f"another process (pid {owner}) is training in {path}. Wait for it or stop it, or "
            "choose another --dir"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())


def read_run(path: Path) -> tuple[str, dict[str, str]]:
    """Returns the experiment that a directory's run was of, and its config's values by path.

    Raises:
        RunDirectoryError: if there is no run, or its record is damaged.
    """
    try:
        facts = json.loads((path / RUN).read_text(encoding="utf-8"))
        values = {str(name): str(value) for name, value in facts["config"].items()}
        return str(facts.get("experiment", "")), values
    except FileNotFoundError:
        raise RunDirectoryError(f"{path} is no run's directory: it has no {RUN}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunDirectoryError(
            f"{path / RUN} is damaged ({error}), so it is unknown what was trained here. Choose "
            "another --dir, or move that file away if you are sure that it is the same experiment"
        ) from error


def _compare(path: Path, config: ConfigBase, accept: bool) -> list[Difference]:
    _, before = read_run(path)
    differences = differences_since(before, config)
    fixed = [d for d in differences if not any(fnmatch.fnmatch(d.path, p) for p in FREE_TO_CHANGE)]
    if fixed and not accept and _has_begun(path):
        shown = "".join(f"\n  {line}" for line in describe(fixed[:12]))
        more = f"\n  ... and {len(fixed) - 12} more" if len(fixed) > 12 else ""
        raise RunDirectoryError(
            f"{path} holds a run of another config, which stays as it is. It differs in:"
            f"{shown}{more}\nChoose another --dir, or use the config that the run was started "
            "with, or go on with these changes: --accept-changes"
        )
    return differences


def _has_begun(path: Path) -> bool:
    """Whether a run left anything here. One that was refused is mended, and started again."""
    return any(file.name not in (RUN, ".lock", "events.jsonl") for file in path.iterdir())


def differences_since(before: Mapping[str, str], config: ConfigBase) -> list[Difference]:
    """Returns what differs between a session's values, as `flat` gives them, and a config.

    A field that is at its default and that the session did not know is none: it came with a later
    version, and its default does what was done before.
    """
    now, unusual = flat(config), canonical(config)
    return [
        Difference(name, before.get(name), now.get(name))
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and (name in before or name in unusual)
    ]


def describe(differences: Sequence[Difference]) -> list[str]:
    """Returns `path: old -> new` lines."""
    return [
        f"{d.path}: {'(absent)' if d.old is None else d.old} -> "
        f"{'(absent)' if d.new is None else d.new}"
        for d in differences
    ]


def _write_atomically(path: Path, data: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
