"""Moves batches onto the mesh ahead of the step that needs them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from axlearn_core.parallel import Placement
from axlearn_core.training.input import BatchIterator
from axlearn_core.training.model import Batch
from axlearn_core.training.share import place_batch


class Prefetcher:
    """Iterates over (batch on the mesh, the input's state after that batch).

    Attributes:
        waited: seconds that the consumer has waited for batches so far.
    """

    def __init__(self, source: BatchIterator, placement: Placement, depth: int = 2):
        self._source = source
        self._placement = placement
        self._queue: queue.Queue[tuple[Batch, dict[str, Any]] | Exception] = queue.Queue(depth)
        self._closed = threading.Event()
        self.waited = 0.0
        self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        start = time.perf_counter()
        item = self._queue.get()
        self.waited += time.perf_counter() - start
        if isinstance(item, Exception):
            self._queue.put(item)  # the thread has ended; another call raises it again
            raise item
        return item

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()
        while self._thread.is_alive():
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
            self._queue.put(error)
