"""What the processes of a run tell each other on the host: one acts for all, all compare.

All of it goes over the devices, in the order of the program, so every process must make the same
calls. A process that is alone makes none.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from axlearn_core.errors import UserError
from axlearn_core.parallel.distributed import ProcessError

T = TypeVar("T")
_NAME_BYTES = 64  # of a host, in what is gathered from every process
_PAGE = 1024  # bytes: texts are filled up, so that few lengths are compiled for
_MOST_LINES = 12  # of a difference, and
_MOST_PROCESSES = 4  # of those that differ, in an error


def is_first() -> bool:
    """Whether this is process 0, which writes and prints for all."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Waits until every process is here; `name` is for the error if one is somewhere else."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def from_first(action: Callable[[], T]) -> T:
    """Calls `action` on process 0 and returns its result, small JSON, on every process.

    Raises:
        Exception: on process 0 what `action` raises; on the others a ProcessError that says so.
    """
    if jax.process_count() == 1:
        return action()
    failure: Exception | None = None
    answer: dict[str, object] = {}
    if is_first():
        try:
            answer["result"] = action()
        except Exception as error:
            failure, answer["error"] = error, str(error)
    answer = json.loads(_broadcast(json.dumps(answer), source=0))
    if failure is not None:
        raise failure
    if "error" in answer:
        raise ProcessError(f"process 0 says: {answer['error']}")
    return answer["result"]  # type: ignore[return-value]


def raise_together(failure: UserError | None) -> None:
    """Raises on every process if one of them has failed.

    Raises:
        UserError: `failure` where there is one; elsewhere a ProcessError that says which it was.
    """
    if jax.process_count() > 1:
        failed = multihost_utils.process_allgather(np.array([failure is not None])).flatten()
        if failed.any():
            source = int(failed.argmax())
            text = _broadcast(str(failure), source=source)
            raise failure or ProcessError(f"process {source} says: {text}")
    if failure is not None:
        raise failure


def check_agreement(facts: Mapping[str, str]) -> None:
    """Compares facts by name, such as a config's values, with those of process 0.

    Raises:
        ProcessError: on every process, naming those that differ and in what.
    """
    if jax.process_count() == 1:
        return
    text = json.dumps(dict(facts), sort_keys=True)
    host = socket.gethostname().encode()[:_NAME_BYTES].ljust(_NAME_BYTES)
    card = np.frombuffer(hashlib.sha256(text.encode()).digest() + host, np.uint8)
    cards = np.asarray(multihost_utils.process_allgather(card))
    hashes, hosts = cards[:, :-_NAME_BYTES], cards[:, -_NAME_BYTES:]
    differing = np.flatnonzero((hashes != hashes[0]).any(axis=1)).tolist()
    if not differing:
        return

    def name(process: int) -> str:
        return f"process {process} on {hosts[process].tobytes().decode(errors='replace').rstrip()}"

    lines = []
    expected = json.loads(_broadcast(text, source=0))
    for process in differing[:_MOST_PROCESSES]:
        found = json.loads(_broadcast(text, source=process))
        lines += [f"{name(process)}:", *_differences(expected, found)]
    if more := differing[_MOST_PROCESSES:]:
        lines.append(f"and {len(more)} more: {', '.join(map(str, more))}")
    raise ProcessError(
        f"the processes of this run must do the same, and differ from {name(0)} (left):"
        + "".join(f"\n  {line}" for line in lines)
        + "\nStart all of them with the same command, environment and packages"
    )


def gather_texts(text: str) -> list[str]:
    """Returns the text of every process, in their order, on every process."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.array([len(data)], np.int32)))
    page = np.zeros(-(-max(1, lengths.max()) // _PAGE) * _PAGE, np.uint8)
    page[: len(data)] = data
    pages = np.asarray(multihost_utils.process_allgather(page))
    pairs = zip(pages, lengths.flatten(), strict=True)
    return [own[:length].tobytes().decode() for own, length in pairs]


def _differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    lines = [
        f"  {key}: {expected.get(key, '(absent)')} -> {found.get(key, '(absent)')}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
    if len(lines) > _MOST_LINES:
        return [*lines[:_MOST_LINES], f"  ... and {len(lines) - _MOST_LINES} more"]
    return lines


def _broadcast(text: str, *, source: int) -> str:
    """Returns the text of process `source` on every process."""
    is_source = jax.process_index() == source
    data = np.frombuffer(text.encode(), np.uint8)
    own = np.array([len(data) if is_source else 0], np.int32)
    length = int(multihost_utils.broadcast_one_to_all(own, is_source=is_source)[0])
    page = np.zeros(-(-length // _PAGE) * _PAGE, np.uint8)
    if is_source:
        page[:length] = data
    page = np.asarray(multihost_utils.broadcast_one_to_all(page, is_source=is_source))
    return page[:length].tobytes().decode()
