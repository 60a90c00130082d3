"""Moves batches onto the mesh ahead of the step that needs them."""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

from axlearn_core.errors import UserError
from axlearn_core.parallel import Placement
from axlearn_core.training.input import BatchIterator
from axlearn_core.training.model import Batch
from axlearn_core.training.share import place_batch

_FRAMES = 3  # of where a source hangs, the innermost


class InputTimeoutError(UserError):
    """The input gave no batch for too long."""


class Prefetcher:
    """Iterates over (batch on the mesh, the input's state after that batch).

    An error of the source is raised by the call that would have given its batch.

    Args:
        source: gives this process's rows.
        placement: of the batches on the mesh.
        depth: so many batches wait to be used.
        timeout: seconds after which the consumer no longer waits; None waits forever.

    Attributes:
        waited: seconds that the consumer has waited for batches so far.

    Raises:
        InputTimeoutError: when the time is over; it names the source and the lines where it is.
    """

    def __init__(
        self,
        source: BatchIterator,
        placement: Placement,
        depth: int = 2,
        timeout: float | None = None,
    ):
        self._source = source
        self._placement = placement
        self._timeout = timeout
        self._hangs = False
        self._queue: queue.Queue[tuple[Batch, dict[str, Any]] | Exception] = queue.Queue(depth)
        self._closed = threading.Event()
        self.waited = 0.0
        self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        start = time.perf_counter()
        try:
            item = self._queue.get(timeout=self._timeout)
        except queue.Empty:
            self._hangs = True
            raise InputTimeoutError(self._where_it_hangs()) from None
        self.waited += time.perf_counter() - start
        if isinstance(item, Exception):
            self._queue.put(item)  # the thread has ended; another call raises it again
            raise item
        return item

    def close(self) -> None:
        """Ends the thread; one that hangs is left behind."""
        self._closed.set()
        while self._thread.is_alive() and not self._hangs:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def _fill(self) -> None:
        try:
            while not self._closed.is_set():
                batch = next(self._source)
                state = self._source.get_state()
                self._queue.put((place_batch(batch, self._placement), state))
        except Exception as error:  # handed to the consumer, StopIteration too
            error.add_note(f"while {_name(self._source)} was read")
            self._queue.put(error)

    def _where_it_hangs(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)
        lines = "".join(
            f"\n  {entry.filename}:{entry.lineno} in {entry.name}: {entry.line}"
            for entry in traceback.extract_stack(frame)[-_FRAMES:]
        )
        return (
            f"{_name(self._source)} gave no batch for {self._timeout} s. "
            f"It is at:{lines}\nLook at its storage, or raise guards.input_timeout. Checkpoints "
            "are intact; the same command goes on from the newest"
        )


def _name(source: BatchIterator) -> str:
    return f"{type(source).__module__}.{type(source).__qualname__}"
