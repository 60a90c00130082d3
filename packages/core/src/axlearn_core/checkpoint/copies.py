"""Frequent copies of the train state beside the processes, which need no durable storage.

Every process writes its part of the arrays to the memory or disk of its own host. Processes whose
parts are the same, such as data-parallel replicas, hold each other's copies by that; a part that
only one process has is sent to the next process as well. After a loss each process takes its part
from its own host, or from one that has it. Only if a part is nowhere does the run go on from the
durable checkpoints. (As multi-tier checkpointing does: arXiv:2507.05411, section 5.)
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import threading
import uuid
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from axlearn_core.checkpoint.checkpointer import flatten_state
from axlearn_core.checkpoint.copy_file import Copy, Pieces, read_copy, write_copy
from axlearn_core.checkpoint.peers import NAME, Server, fetch, send
from axlearn_core.config import ConfigError, Configurable
from axlearn_core.hardware.contract import PLACE
from axlearn_core.observe.faults import tell_fault
from axlearn_core.parallel import from_first, gather_texts, wait_for_all

_IDENTITY = "copies.json"  # in the run's directory: which copies are of this run
_KEPT = 2  # steps: the newest that all have, and one that is being written
_logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """A step whose parts are all there.

    Attributes:
        step: the newest such step.
        own: how many processes have their part on their own host; the others fetch it.
        holders: the address of a process for each part.
    """

    step: int
    own: int
    holders: Mapping[str, str]


class Copies(Configurable):
    """Keeps copies of the state beside the processes of a run.

    Args:
        directory: of the run.
        like: the train state's `jax.ShapeDtypeStruct`s with shardings.
    """

    class Config(Configurable.Config):
        """How often, and where.

        Attributes:
            every: steps between copies; null makes none.
            directory: on each host, in memory or on a local disk.
        """

        every: int | None = None
        directory: str = "/dev/shm/axlearn"

    def __init__(self, config: Config, *, directory: Path, like: Any):
        super().__init__(config)
        if config.every is not None and config.every < 1:
            raise ConfigError(f"every (={config.every}) must be at least 1, or null")
        self._every = config.every
        self._like = like
        self._under_way: threading.Thread | None = None
        if self._every is None:
            return
        run, self._token = from_first(lambda: [_identity(directory), secrets.token_hex(16)])
        self._folder = Path(config.directory) / run / f"place-{os.environ.get(PLACE, '0')}"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._keys = _keys(like)
        self._key = self._keys[jax.process_index()]
        self._server = Server(self._folder, self._token) if jax.process_count() > 1 else None
        own = {"address": self._server.address if self._server else "", "held": self._held()}
        self._peers = [json.loads(text) for text in gather_texts(json.dumps(own))]

    def due(self, step: int) -> bool:
        """Whether a copy is to be made after this step."""
        return self._every is not None and step % self._every == 0

    def save(self, step: int, state: Any, facts: Mapping[str, Any]) -> None:
        """Starts to write a copy; returns as soon as the state is in host memory.

        A copy that fails is logged: the run goes on without it.
        """
        self._wait()
        wait_for_all("copies")  # so that all have one more step whenever one begins the next
        pieces = _pieces(state)
        path = self._folder / f"{step:08d}.{self._key}"
        work = (path, dict(facts), pieces)
        self._under_way = threading.Thread(target=self._write, args=work, name="copy", daemon=True)
        self._under_way.start()

    def find(self, after: int, before: int) -> Found | None:
        """Returns the newest step between the two of which every part is somewhere."""
        if self._every is None:
            return None
        holders: dict[int, dict[str, str]] = {}
        for peer in self._peers:
            for name in peer["held"]:
                number, _, key = name.partition(".")
                holders.setdefault(int(number), {}).setdefault(key, peer["address"])
        for step in sorted(holders, reverse=True):
            if after < step < before and set(self._keys) <= holders[step].keys():
                pairs = zip(self._keys, self._peers, strict=True)
                own = sum(f"{step:08d}.{key}" in peer["held"] for key, peer in pairs)
                return Found(step, own, holders[step])
        return None

    def restore(self, found: Found) -> tuple[Any, dict[str, Any]] | None:
        """Returns the state and the facts of a step that `find` gave.

        None, on every process and after a warning, if one cannot get its part.
        """
        copy = self._read(found)
        if "" in gather_texts("" if copy is None else "read"):
            return None
        assert copy is not None
        pieces = copy.pieces

        def placed(name: str, like: jax.ShapeDtypeStruct) -> jax.Array:
            def part(index: tuple[slice, ...] | None) -> np.ndarray[Any, Any]:
                assert index is not None  # which it is only for devices that are not in the mesh
                return pieces[name, _text(index, like.shape)]

            return jax.make_array_from_callback(like.shape, like.sharding, part)

        leaves = [placed(name, like) for name, like in flatten_state(self._like).items()]
        return jax.tree.unflatten(jax.tree.structure(self._like), leaves), copy.facts

    def remove(self) -> None:
        """Removes the copies: the run has come to its end, and a checkpoint holds all."""
        if self._every is None:
            return
        self._wait()
        wait_for_all("the last copy")
        if self._server is not None:
            self._server.close()
        # With what a place of this host still has that was lost, and replaced by another.
        shutil.rmtree(self._folder.parent, ignore_errors=True)

    def _write(self, path: Path, facts: Mapping[str, Any], pieces: Pieces) -> None:
        try:
            write_copy(path, facts, pieces)
            if self._keys.count(self._key) == 1 and self._server is not None:
                following = (jax.process_index() + 1) % jax.process_count()
                send(self._peers[following]["address"], path, self._token)
            for old in sorted({name.partition(".")[0] for name in self._names()})[:-_KEPT]:
                for file in self._folder.glob(f"{old}.*"):
                    file.unlink(missing_ok=True)
        except (OSError, HTTPException) as error:
            message = f"a copy of the state could not be kept, and is left out: {error}"
            tell_fault("copy_failed", message)

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.join()

    def _read(self, found: Found) -> Copy | None:
        name = f"{found.step:08d}.{self._key}"
        path, holder = self._folder / name, found.holders[self._key]
        try:
            data = path.read_bytes() if path.exists() else fetch(holder, name, self._token)
            copy, problem = read_copy(data), "it is damaged"
        except (OSError, HTTPException) as error:
            copy, problem = None, str(error)
        if copy is None:
            _logger.warning("the copy %s of %s cannot be used: %s", name, holder, problem)
        return copy

    def _held(self) -> list[str]:
        """Returns the names of the intact copies on this host."""
        names = self._names()
        return [n for n in names if read_copy((self._folder / n).read_bytes()) is not None]

    def _names(self) -> list[str]:
        return sorted(p.name for p in self._folder.iterdir() if NAME.fullmatch(p.name))


def _identity(directory: Path) -> str:
    """Returns the name of a run, which it keeps for its life: another may come to its path."""
    path = directory / _IDENTITY
    if not path.exists():
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(json.dumps({"run": uuid.uuid4().hex}), encoding="utf-8")
        os.replace(partial, path)
    run: str = json.loads(path.read_text(encoding="utf-8"))["run"]
    return run


def _keys(like: Any) -> list[str]:
    """Names what each process holds of a state: those that hold the same have the same key."""
    held: list[set[tuple[str, str, str]]] = [set() for _ in range(jax.process_count())]
    for name, array in flatten_state(like).items():
        for device, index in array.sharding.devices_indices_map(array.shape).items():
            piece = (name, _text(index, array.shape), array.dtype.name)
            held[device.process_index].add(piece)
    texts = [json.dumps(sorted(pieces)) for pieces in held]
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]


def _pieces(state: Any) -> Pieces:
    """Copies what this process holds of a state to the host, each part once."""
    arrays = flatten_state(state)
    shards = {
        (name, _text(shard.index, array.shape)): shard.data
        for name, array in arrays.items()
        for shard in array.addressable_shards
    }
    for data in shards.values():
        data.copy_to_host_async()
    # The next step takes the state's memory, which on the CPU numpy would share.
    return {piece: np.array(data) for piece, data in shards.items()}


def _text(index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    bounds = (part.indices(size) for part, size in zip(index, shape, strict=True))
    return ",".join(f"{start}:{stop}" for start, stop, _ in bounds)
