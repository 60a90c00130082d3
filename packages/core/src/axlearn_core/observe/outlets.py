"""All writers of a run behind one, of which those that fail do not take the run with them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from axlearn_core.errors import UserError
from axlearn_core.observe.writers import JsonlWriter, Kind, Postponed, Writer

MAX_FAILURES: Final = 3  # a metric service that hiccups survives; one that is gone does not spam
_logger = logging.getLogger(__name__)


class Outlets:
    """Passes everything on to each writer, in their order.

    `metrics.jsonl` belongs to the run: what cannot be written there waits, and must be written
    before a checkpoint is. Any other writer is logged when it fails, and not called again in this
    run after `MAX_FAILURES` times.

    Args:
        writers: not opened yet.
        failed: called with a line for each failure.
    """

    def __init__(self, writers: Sequence[Writer], failed: Callable[[str], None]):
        self._writers = writers
        self._open: list[Writer] = []
        self._failed = failed
        self._failures: Counter[Writer] = Counter()

    def open(self, directory: Path, *, after_step: int) -> None:
        """Opens all, anew after a rewind; one that fails is left out of this run.

        Raises:
            UserError: if one needs something that the user can give it, such as a package.
        """
        self.close()
        for writer in self._writers:
            try:
                writer.open(directory, after_step=after_step)
            except UserError:
                raise
            except Exception as error:
                self._tell(writer, error, gone=True)
            else:
                self._open.append(writer)

    def write(self, step: int, kind: Kind, values: Mapping[str, float]) -> None:
        self._each(lambda writer: writer.write(step, kind, values))

    def flush(self) -> None:
        """Makes all that was written survive the end of the process.

        Raises:
            UserError: if `metrics.jsonl` lacks something.
        """
        self._each(lambda writer: writer.flush())

    def close(self) -> None:
        """Closes those that are open."""
        self._each(lambda writer: writer.close())
        self._open = []

    def _each(self, call: Callable[[Writer], None]) -> None:
        for writer in list(self._open):
            try:
                call(writer)
            except Postponed as error:
                _logger.warning("%s", error)
                self._failed(str(error))
            except Exception as error:
                self._failures[writer] += 1
                gone = self._failures[writer] == MAX_FAILURES
                self._tell(writer, error, gone=gone)
                if gone:
                    self._open.remove(writer)

    def _tell(self, writer: Writer, error: Exception, *, gone: bool) -> None:
        if isinstance(writer, JsonlWriter):
            raise error
        line = f"{type(writer).__name__} failed: {type(error).__name__}: {error}"
        suffix = ". It is not called again in this run" if gone else ""
        _logger.warning("%s%s", line, suffix, exc_info=error)
        self._failed(line + suffix)
