"""The circular pipeline: stages side by side, microbatches passed from each to the next.

Pure functions of arrays. A stage's arrays have a leading axis "stages", which the sharding rules
split over the mesh; all stages compute at once (`vmap`), and what they pass on is rolled by one
along that axis, which compiles to a collective permute between neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from axlearn_core.config import ConfigError
from axlearn_core.parallel.sharding import constrain, current_placement, partition_spec

F = TypeVar("F", bound=Callable[..., Any])


class Work(NamedTuple):
    """What a stage does in a tick: one chunk of its layers, for one microbatch."""

    stage: jax.Array  # [] int32
    repeat: jax.Array  # [] int32, how often the microbatch came round before: which chunk
    microbatch: jax.Array  # [] int32; outside of 0, 1, ..., microbatches - 1 in the bubble


class Stage(Protocol):
    """The layers of one stage."""

    def __call__(self, params: Any, work: Work, x: jax.Array) -> tuple[jax.Array, Any]:
        """Returns what x, of one microbatch, becomes, and side outputs: any tree of arrays.

        Args:
            params: the stage's slice of the stacked parameters.
            work: tells apart stages, chunks and microbatches.
            x: [rows, seq, ...].
        """


@dataclasses.dataclass(frozen=True)
class PipelineShape:
    """S stages through which M microbatches go round V times, in M * V + S - 1 ticks.

    With V = 1 it is GPipe (arXiv:1811.06965). With more, stage s holds the chunks s, s + S, ... of
    layers, and microbatches come round in groups of S (interleaved, arXiv:2104.04473): the last
    stage hands to the first what it needs in the next tick.

    Raises:
        ConfigError: if microbatches that go round do not come in whole groups.
    """

    stages: int  # S
    microbatches: int  # M
    repeats: int = 1  # V

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ConfigError(f"{name} (={value}) must be at least 1")
        if self.repeats > 1 and self.microbatches % self.stages:
            raise ConfigError(
                f"microbatches (={self.microbatches}) must be a multiple of stages "
                f"(={self.stages}) where they go round {self.repeats} times"
            )

    @property
    def ticks(self) -> int:
        """How many chunks each stage computes, one after the other, idle ones included."""
        return self.microbatches * self.repeats + self.stages - 1

    @property
    def bubble(self) -> float:
        """(S - 1) / (M * V + S - 1): the fraction of ticks in which a stage has nothing to do."""
        return (self.stages - 1) / self.ticks

    def work(self, tick: jax.Array | int, stage: jax.Array | int) -> Work:
        """Returns what stages do in a tick: those numbered by an array, or one."""
        step = jnp.asarray(tick - stage)
        group, within = jnp.divmod(step, self.stages * self.repeats)
        repeat, member = jnp.divmod(within, self.stages)
        return Work(jnp.asarray(stage), repeat, group * self.stages + member)

    def done_at(self) -> NDArray[np.int64]:
        """Returns the tick of each piece of work, [stages, repeats, microbatches]."""
        stage, repeat, microbatch = np.ix_(
            range(self.stages), range(self.repeats), range(self.microbatches)
        )
        group, member = np.divmod(microbatch, self.stages)
        return stage + (group * self.repeats + repeat) * self.stages + member


def circular(
    stage: Stage, params: Any, inputs: jax.Array, shape: PipelineShape
) -> tuple[jax.Array, Any]:
    """Sends microbatches through all stages; differentiating it sends gradients back likewise.

    Stages without work compute as well, with numbers that a microbatch had somewhere, so that they
    are as finite as all others; nothing of it is read.

    Args:
        stage: computes one stage.
        params: trees of [stages, ...].
        inputs: [microbatches, rows, seq, ...].
        shape: of the pipeline.

    Returns:
        [microbatches, rows, seq, ...], and side outputs of [stages, repeats, microbatches, ...].
    """
    numbers = jnp.arange(shape.stages)
    run = over_stages(stage)
    inputs = microbatches_placed(inputs)

    def tick(x: jax.Array, index: jax.Array) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        work = shape.work(index, numbers)
        begins = (numbers == 0) & (work.repeat == 0)
        first = microbatch_of(inputs, shape.work(index, 0).microbatch)
        x = stages_placed(jnp.where(_along(begins, x), first, x))
        y, side = run(params, work, x)
        y = stages_placed(y)
        return jnp.roll(y, 1, axis=0), (y, side)

    start = jnp.broadcast_to(jax.lax.stop_gradient(inputs[0]), (shape.stages, *inputs.shape[1:]))
    _, (ys, sides) = jax.lax.scan(tick, stages_placed(start), jnp.arange(shape.ticks))
    done_at = shape.done_at()
    outputs = of_stage(shape.stages - 1, ys[done_at[-1, -1]], axis=1)
    return microbatches_placed(outputs), when_done(sides, done_at)


def over_stages(function: F) -> F:
    """Maps a function over the leading axis of all its arguments, each part where its stage is."""
    placement = current_placement()
    axes = None
    if placement is not None and placement.mesh.size > 1:
        axes = partition_spec(("stages",), placement.rules)[0]
    return jax.vmap(function, spmd_axis_name=axes)


def of_stage(number: int, x: jax.Array, axis: int = 0) -> jax.Array:
    """Gives every stage what one of them has. A sum, so that no other stage's part is moved."""
    chosen = _along(jnp.arange(x.shape[axis]) == number, x, axis)
    return jnp.sum(jnp.where(chosen, x, 0), axis=axis, dtype=x.dtype)


def with_stage(number: int, x: jax.Array, part: jax.Array) -> jax.Array:
    """Puts what one stage has in its place in [stages, ...]."""
    return jnp.where(_along(jnp.arange(len(x)) == number, x), part, x)


def when_done(sides: Any, done_at: NDArray[np.int64]) -> Any:
    """Picks from [ticks, stages, ...] what is no bubble: [stages, repeats, microbatches, ...]."""

    def pick(of_stage: jax.Array, ticks: Any) -> jax.Array:
        return of_stage[ticks]

    return jax.tree.map(lambda x: jax.vmap(pick, in_axes=(1, 0))(x, done_at), sides)


def stages_placed(x: jax.Array) -> jax.Array:
    """Places [stages, rows, seq, ...]."""
    return constrain(x, "stages", *_batch_axes(x.ndim - 1))


def microbatches_placed(x: jax.Array) -> jax.Array:
    """Places [microbatches, rows, seq, ...]."""
    return constrain(x, None, *_batch_axes(x.ndim - 1))


def microbatch_of(tree: Any, index: jax.Array) -> Any:
    """Returns one microbatch of trees of [microbatches, ...]; in the bubble, any of them."""
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), tree)


def split_rows(x: jax.Array, count: int) -> jax.Array:
    """Reshapes [batch, ...] to [count, batch / count, ...].

    Microbatch i takes the rows i, i + count, ..., so that each device keeps the rows it has.
    """
    return jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1)


def join_rows(x: jax.Array) -> jax.Array:
    """Undoes `split_rows`."""
    return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])


def _batch_axes(rank: int) -> tuple[str | None, ...]:
    return ("batch", "residual_seq", *[None] * (rank - 2))


def _along(x: Any, like: jax.Array, axis: int = 0) -> Any:
    """Reshapes a vector so that it lies along an axis of another array."""
    return x.reshape([-1 if i == axis else 1 for i in range(like.ndim)])
