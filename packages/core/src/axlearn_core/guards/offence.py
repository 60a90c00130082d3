"""What is kept of a step that could not be made: its batch, and how to come to it again.

faults/00000007/offence.json   the numbers, and from which checkpoint and place in the data
                batch.npz      the batch; of several processes, each keeps its rows
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from axlearn_core.errors import UserError
from axlearn_core.parallel import is_first

if TYPE_CHECKING:
    from axlearn_core.guards.numbers import Attempt

FOLDER = "faults"
_FACTS = "offence.json"
_MOST_KEPT = 20  # offences of a run


class Offence(NamedTuple):
    """A step whose loss or gradient was no good."""

    step: int
    loss: float
    gradient_norm: float
    problem: str
    attempt: Attempt

    def save(self, directory: Path, batch: Mapping[str, jax.Array]) -> str:
        """Writes it below a run's directory; returns what to say of that."""
        folder = offence_folder(directory, self.step)
        if not folder.exists() and len(list((directory / FOLDER).glob("[0-9]*"))) >= _MOST_KEPT:
            return f"The batch is not kept: {directory / FOLDER} holds {_MOST_KEPT} already"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            rows: dict[str, Any] = {name: _local_rows(x) for name, x in batch.items()}
            np.savez(folder / _batch_name(), **rows)
            if is_first():
                (folder / _FACTS).write_text(json.dumps(self._facts(), indent=1), "utf-8")
        except OSError as error:
            return f"The batch could not be kept in {folder}: {error.strerror}"
        return (
            f"The batch is kept in {folder.relative_to(directory)}; `axl replay {directory} "
            f"{self.step}` shows where it arises"
        )

    def _facts(self) -> dict[str, Any]:
        # As text: JSON has neither infinity nor NaN.
        numbers = {"loss": str(self.loss), "gradient_norm": str(self.gradient_norm)}
        return {**self._asdict(), **numbers, "attempt": self.attempt._asdict()}


def offence_folder(directory: Path, step: int) -> Path:
    """Returns where the offence of a step is kept."""
    return directory / FOLDER / f"{step:08d}"


def load_offence(directory: Path, step: int) -> Offence | None:
    """Reads what was kept of a step, if there was an offence.

    Raises:
        UserError: if the file is damaged.
    """
    from axlearn_core.guards.numbers import Attempt

    path = offence_folder(directory, step) / _FACTS
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        numbers = (int(facts["step"]), float(facts["loss"]), float(facts["gradient_norm"]))
        return Offence(*numbers, str(facts["problem"]), Attempt(**facts["attempt"]))
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}); move it away to replay the step without it"
        ) from error


def load_batch(directory: Path, step: int) -> dict[str, NDArray[Any]] | None:
    """Reads the whole batch of an offence, None if one process did not hold all of it.

    Raises:
        UserError: if the file is damaged.
    """
    path = offence_folder(directory, step) / "batch.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile, zlib, tokenize and numpy each have their own
        raise UserError(
            f"{path} is damaged ({error!r}); move it away to replay the step with the input's batch"
        ) from error


def _batch_name() -> str:
    alone = jax.process_count() == 1
    return "batch.npz" if alone else f"batch-of-process-{jax.process_index()}.npz"


def _local_rows(x: jax.Array) -> NDArray[Any]:
    """Returns the rows from the first to the last that this process holds a part of."""
    if x.is_fully_addressable:
        return np.asarray(x)
    spans = [shard.index[0].indices(x.shape[0]) for shard in x.addressable_shards]
    low, high = min(start for start, _, _ in spans), max(stop for _, stop, _ in spans)
    rows = np.zeros((high - low, *x.shape[1:]), x.dtype)
    for shard, (start, stop, _) in zip(x.addressable_shards, spans, strict=True):
        rows[(slice(start - low, stop - low), *shard.index[1:])] = np.asarray(shard.data)
    return rows
