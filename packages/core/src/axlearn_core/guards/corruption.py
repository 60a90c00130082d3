"""Finds devices that compute or hold wrong bits without saying so (arXiv:2102.11245).

Three checks, each every so many steps. Devices that hold the same part of the state must hold the
same bits: a flipped bit of a weight, or of what one device got from a collective, is found, and the
majority says which device has it. Each device computes the gradient of its own rows twice, before
any collective: a device whose two results differ is the culprit. And a whole step is made twice
from the same state: the devices whose new state differs are named, which are all if a sum over
them was wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import NDArray

from axlearn_core.config import ConfigError, Configurable
from axlearn_core.errors import UserError
from axlearn_core.guards.checksums import checksums, checksums_by_device
from axlearn_core.training.input import BatchShape
from axlearn_core.training.model import Batch
from axlearn_core.training.offload import on_device
from axlearn_core.training.program import Program
from axlearn_core.training.state import TrainState
from axlearn_core.training.step import TrainStep

_MOST_NAMES = 6  # of arrays that an error lists


class CorruptionError(UserError):
    """A device computed or holds wrong bits."""


class Corruption(Configurable):
    """Says which checks are made, and when."""

    class Config(Configurable.Config):
        replicas_every: int | None = None  # steps between comparisons of what devices hold alike
        # The others need devices that compute deterministically, which GPUs do with
        # XLA_FLAGS=--xla_gpu_deterministic_ops=true.
        # Steps between gradients that are computed twice. Each device needs room for all of the
        # parameters and their gradient.
        gradients_every: int | None = None
        steps_every: int | None = None  # between steps that are made twice; needs a second state

    def __init__(self, config: Config):
        super().__init__(config)
        for name in ("replicas_every", "gradients_every", "steps_every"):
            value = getattr(config, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} (={value}) must be at least 1, or null")


class CorruptionWatch:
    """Makes the checks of a run.

    Attributes:
        verified: the last step at which the devices' copies were the same.
    """

    def __init__(
        self,
        config: Corruption.Config,
        program: Program,
        train_step: TrainStep,
        batch_shape: BatchShape,
    ):
        self._config = config
        self._train_step = train_step
        self._program = program
        self._mesh = cast(Mesh, program.placement.mesh)
        self._batch_shape = batch_shape
        self._held: Any = None
        self._gradients: Any = None
        self._again: tuple[TrainState, Batch] | None = None
        self.verified = 0

    def before_step(self, step: int, state: TrainState, batch: Batch) -> None:
        """Computes the gradients of a step twice if that is due, and keeps what it is made of.

        Raises:
            CorruptionError: if a device's two gradients differ.
        """
        if _due(self._config.steps_every, step):
            self._again = jax.tree.map(jnp.copy, state), batch  # the step overwrites its state
        if not _due(self._config.gradients_every, step):
            return
        state = on_device(state, self._program.state)
        if self._gradients is None:
            self._gradients = self._compiled_gradients(_structs(state))
        first, second = (_fetched(self._gradients(state, batch)) for _ in range(2))
        if suspects := np.flatnonzero((first != second).any(axis=1)).tolist():
            raise CorruptionError(
                f"step {step}: {self._named(suspects)} computed two different gradients of the "
                f"same rows: silent data corruption. {self._remedy()}"
            )

    def after_step(self, step: int, state: TrainState, *, saves: bool) -> None:
        """Compares the state with that of the same step made again, if that is due.

        And the devices' copies of it with one another, if that is due, or before it is saved.

        Raises:
            CorruptionError: if they differ.
        """
        again, self._again = self._again, None
        if again is not None:
            sums = self._sums(state)
            differ = (sums != self._sums(self._train_step(*again)[0])).any(axis=1)
            if suspects := np.flatnonzero(differ).tolist():
                raise CorruptionError(
                    f"step {step}, made twice from the same state, gave two different states on "
                    f"{self._named(suspects)}: silent data corruption. {self._remedy()}"
                )
        every = self._config.replicas_every
        if every is None or not (saves or _due(every, step)):
            return
        if problems := self._disagreements(self._sums(state)):
            shown = "".join(f"\n  {problem}" for problem in problems[:_MOST_NAMES])
            more = len(problems) - _MOST_NAMES
            shown += f"\n  ... and {more} more" if more > 0 else ""
            raise CorruptionError(
                f"step {step}: devices that must hold the same bits do not, which is silent data "
                f"corruption:{shown}\n{self._remedy()}"
            )
        self.verified = step

    def _sums(self, state: TrainState) -> NDArray[np.uint32]:
        state = on_device(state, self._program.state)
        if self._held is None:
            self._held = checksums_by_device(_structs(state), self._mesh)
        return _fetched(self._held(state))

    def _disagreements(self, sums: NDArray[np.uint32]) -> list[str]:
        problems = []
        devices = list(self._mesh.devices.flat)
        leaves, _ = jax.tree_util.tree_flatten_with_path(self._program.state)
        for column, (path, struct) in enumerate(leaves):
            where = struct.sharding.devices_indices_map(struct.shape)
            groups: dict[str, list[int]] = {}
            for row, device in enumerate(devices):
                groups.setdefault(str(where[device]), []).append(row)
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            for rows in groups.values():
                if suspects := minority(sums[rows, column].tolist()):
                    few = self._named([rows[i] for i in suspects])
                    whole = len(suspects) == len(rows)
                    problems.append(
                        f"{name} differs between {few}"
                        if whole
                        else f"{name} of {few} differs from the {len(rows) - len(suspects)} others"
                    )
        return problems

    def _named(self, rows: Sequence[int]) -> str:
        devices = list(self._mesh.devices.flat)
        return ", ".join(
            f"device {devices[row].id} ({devices[row].device_kind}, process "
            f"{devices[row].process_index})"
            for row in rows
        )

    def _remedy(self) -> str:
        known = f"at step {self.verified} all copies were the same" if self.verified else ""
        return (
            f"Nothing of it was saved{f'; {known}' if known else ''}. Take the device out of use, "
            "and run the same command again: it goes on from the last checkpoint"
        )

    def _compiled_gradients(self, state: TrainState) -> Any:
        program, mesh = self._program, self._mesh
        gradients = program.gradients()
        structs = program.batch_structs(self._batch_shape)
        rows = {name: PartitionSpec(cast(Any, x.sharding).spec[0]) for name, x in structs.items()}

        def of_own_rows(state: TrainState, batch: Batch) -> jax.Array:
            return checksums(gradients(state, batch).grads)[None]

        of_each = jax.shard_map(
            of_own_rows,
            mesh=mesh,
            in_specs=(PartitionSpec(), rows),
            out_specs=PartitionSpec(mesh.axis_names, None),
            check_vma=False,
        )
        return jax.jit(of_each).lower(state, structs).compile()


def minority(values: Sequence[int]) -> list[int]:
    """Returns the places of what is not the most frequent value; of a tie, all places."""
    counts = Counter(values).most_common(2)
    if len(counts) == 1:
        return []
    tie = counts[0][1] == counts[1][1]
    return [i for i, value in enumerate(values) if tie or value != counts[0][0]]


def _structs(state: TrainState) -> TrainState:
    def struct(x: jax.Array) -> Any:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

    return cast(TrainState, jax.tree.map(struct, state))


def _due(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0


def _fetched(sums: jax.Array) -> NDArray[np.uint32]:
    """Returns all rows on every process, so that all of them find the same."""
    if sums.is_fully_addressable:
        return np.asarray(sums)
    return np.asarray(multihost_utils.process_allgather(sums, tiled=True))
