"""The pipeline that owns the loss: one forward, one backward (1F1B)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from axlearn_core.parallel.pipeline import (
    PipelineShape,
    Work,
    microbatch_of,
    of_stage,
    over_stages,
    stages_placed,
    when_done,
    with_stage,
)

Floats = list[jax.Array]


class LossStage(Protocol):
    """The layers of one stage, which may add to the loss."""

    def __call__(
        self, params: Any, data: Any, work: Work, x: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], Any]:
        """Returns what x becomes, what it adds to the loss ([] float32), and side outputs."""


class Begin(Protocol):
    """What comes before the first stage."""

    def __call__(self, outer: Any, data: Any, microbatch: jax.Array) -> tuple[jax.Array, Any]:
        """Returns what the first stage reads, [rows, seq, ...], and side outputs."""


class Finish(Protocol):
    """What comes after the last stage."""

    def __call__(
        self, outer: Any, data: Any, microbatch: jax.Array, y: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Returns the loss of a microbatch, [] float32, and side outputs."""


class PipelineLoss(NamedTuple):
    """A loss and the side outputs on the way; only the loss has gradients."""

    total: jax.Array  # [] float32
    stages: Any  # [stages, repeats = 1, microbatches, ...]
    begin: Any  # [microbatches, ...]
    finish: Any  # [microbatches, ...]


def one_forward_one_backward(
    stage: LossStage,
    begin: Begin,
    finish: Finish,
    params: Any,
    outer: Any,
    data: Any,
    shape: PipelineShape,
) -> PipelineLoss:
    """Computes a loss, and its gradients by `params` and `outer` in the forward pass.

    PipeDream-flush (arXiv:1806.03377, 2104.04473), in lock step. Stage s reads microbatch m in tick
    s + m. The last stage has its loss in that tick and sends gradients back at once; they are at
    stage s in tick 2 (S - 1) - s + m, and there the stage is computed again from what it read,
    which is all it keeps: 2 S - 1 microbatches at most, however many there are. S - 1 ticks only go
    forward, M do both, and S - 1 only go back, so the bubble is GPipe's, (S - 1) / (M + S - 1).

    Gradients are added up in float32. In a backward pass they are only scaled, so a second
    derivative does not exist.

    Args:
        stage, begin, finish: functions that close over no traced array.
        params: trees of [stages, ...].
        outer: what `begin` and `finish` read.
        data: what all of them read and no gradient is taken of.
        shape: of the pipeline, with one repeat.
    """
    ours, theirs = _Parts.of(params), _Parts.of(outer)

    def forward(
        floats: tuple[Floats, Floats], rest: tuple[Floats, Floats], data: Any
    ) -> tuple[PipelineLoss, tuple[Floats, Floats]]:
        ticks = _Ticks(
            lambda params, rest, work, x: stage(ours.join(params, rest), data, work, x),
            lambda outer, m: begin(theirs.join(outer, rest[1]), data, m),
            lambda outer, m, y: finish(theirs.join(outer, rest[1]), data, m, y),
            params=floats[0],
            rest=rest[0],
            outer=floats[1],
            shape=shape,
        )
        return _run(ticks)

    @jax.custom_vjp
    def run(floats: tuple[Floats, Floats], rest: tuple[Floats, Floats], data: Any) -> PipelineLoss:
        return forward(floats, rest, data)[0]

    def backward(
        gradients: tuple[Floats, Floats], cotangents: PipelineLoss
    ) -> tuple[tuple[Floats, Floats], None, None]:
        scaled = jax.tree.map(lambda g: g * cotangents.total.astype(g.dtype), gradients)
        return scaled, None, None

    run.defvjp(forward, backward)
    return run((ours.floats, theirs.floats), (ours.rest, theirs.rest), data)


class _Parts(NamedTuple):
    """A tree, taken apart into what has gradients and what has none."""

    floats: Floats
    rest: Floats
    join: Callable[[Floats, Floats], Any]

    @classmethod
    def of(cls, tree: Any) -> _Parts:
        structure: Any
        leaves, structure = jax.tree.flatten(tree)
        is_float = [bool(jnp.issubdtype(leaf.dtype, jnp.floating)) for leaf in leaves]

        def join(floats: Floats, rest: Floats) -> Any:
            from_floats, from_rest = iter(floats), iter(rest)
            return structure.unflatten(
                [next(from_floats if yes else from_rest) for yes in is_float]
            )

        floats = [leaf for leaf, yes in zip(leaves, is_float, strict=True) if yes]
        rest = [leaf for leaf, yes in zip(leaves, is_float, strict=True) if not yes]
        return cls(floats, rest, join)


class _Carry(NamedTuple):
    x: jax.Array  # [stages, rows, seq, ...], what each stage reads next
    kept: jax.Array  # [2 S - 1, stages, rows, seq, ...], what it read: that of tick t at t mod 2S-1
    gradient: jax.Array  # [stages, rows, seq, ...], by what each stage wrote, for what it does next
    loss: jax.Array  # [] float32
    gradients: tuple[Floats, Floats]  # float32, by params and outer


@dataclasses.dataclass(frozen=True)
class _Ticks:
    """What is done in one tick."""

    stage: Callable[[Floats, Floats, Work, jax.Array], Any]
    begin: Callable[[Floats, jax.Array], tuple[jax.Array, Any]]
    finish: Callable[[Floats, jax.Array, jax.Array], tuple[jax.Array, Any]]
    params: Floats
    rest: Floats  # of the parameters
    outer: Floats
    shape: PipelineShape

    def start(self) -> _Carry:
        """Stages without work read a real microbatch, so that they are as finite as all others."""
        stages = self.shape.stages
        x, _ = self.begin(self.outer, jnp.int32(0))
        everywhere = stages_placed(jnp.broadcast_to(x, (stages, *x.shape)))
        return _Carry(
            x=everywhere,
            kept=jnp.broadcast_to(everywhere, (2 * stages - 1, *everywhere.shape)),
            gradient=jnp.zeros_like(everywhere),
            loss=jnp.zeros((), jnp.float32),
            gradients=jax.tree.map(
                lambda x: jnp.zeros(x.shape, jnp.float32), (self.params, self.outer)
            ),
        )

    def warm_up(self, carry: _Carry, tick: jax.Array) -> tuple[_Carry, Any]:
        carry, _, sides = self._forwards(carry, tick)
        return carry, sides

    def both(self, carry: _Carry, tick: jax.Array) -> tuple[_Carry, Any]:
        carry, y, sides = self._forwards(carry, tick)
        carry, side = self._turn(carry, tick, y)
        return self._backwards(carry, tick), (sides, side)

    def drain(self, carry: _Carry, tick: jax.Array) -> tuple[_Carry, None]:
        return self._backwards(carry, tick), None

    def _forwards(self, carry: _Carry, tick: jax.Array) -> tuple[_Carry, jax.Array, Any]:
        fresh, begin_side = self.begin(self.outer, tick)
        x = stages_placed(with_stage(0, carry.x, fresh))
        kept = jax.lax.dynamic_update_index_in_dim(carry.kept, x, tick % len(carry.kept), 0)
        work = self.shape.work(tick, jnp.arange(self.shape.stages))
        (y, added), side = over_stages(self.stage)(self.params, self.rest, work, x)
        loss = carry.loss + jnp.sum(jnp.where(self._is_real(work), added, 0))
        y = stages_placed(y)
        carry = carry._replace(x=jnp.roll(y, 1, axis=0), kept=kept, loss=loss)
        return carry, y, (side, begin_side)

    def _turn(self, carry: _Carry, tick: jax.Array, y: jax.Array) -> tuple[_Carry, Any]:
        """From the last stage's output to the gradient by it."""
        last = self.shape.stages - 1

        def loss_of(outer: Floats, y: jax.Array) -> tuple[jax.Array, Any]:
            return self.finish(outer, tick - last, y)

        gradient_of = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
        (loss, side), (by_outer, by_y) = gradient_of(self.outer, of_stage(last, y))
        by_params, before = carry.gradients
        return carry._replace(
            gradient=stages_placed(with_stage(last, carry.gradient, by_y)),
            loss=carry.loss + loss,
            gradients=(by_params, _add(before, by_outer)),
        ), side

    def _backwards(self, carry: _Carry, tick: jax.Array) -> _Carry:
        numbers = jnp.arange(self.shape.stages)
        first = tick - 2 * (self.shape.stages - 1)
        work = Work(numbers, jnp.zeros_like(numbers), first + numbers)
        read_in = (work.microbatch + numbers) % len(carry.kept)
        x = stages_placed(jax.vmap(microbatch_of, in_axes=(1, 0))(carry.kept, read_in))
        by_params, by_x = over_stages(self._pull)(
            self.params, self.rest, work, x, carry.gradient, self._is_real(work)
        )
        _, pullback = jax.vjp(lambda outer: self.begin(outer, first)[0], self.outer)
        (by_outer,) = pullback(of_stage(0, by_x))
        mine, theirs = carry.gradients
        return carry._replace(
            gradient=jnp.roll(stages_placed(by_x), -1, axis=0),
            gradients=(_add(mine, by_params), _add(theirs, by_outer)),
        )

    def _pull(
        self,
        params: Floats,
        rest: Floats,
        work: Work,
        x: jax.Array,
        gradient: jax.Array,
        is_real: jax.Array,
    ) -> tuple[Floats, jax.Array]:
        """Returns one stage's gradients by its parameters and by what it read."""
        _, pullback, _ = jax.vjp(
            lambda params, x: self.stage(params, rest, work, x), params, x, has_aux=True
        )
        cotangents = jnp.where(is_real, gradient, 0), is_real.astype(jnp.float32)
        pulled: tuple[Floats, jax.Array] = pullback(cotangents)
        return pulled

    def _is_real(self, work: Work) -> jax.Array:
        return (work.microbatch >= 0) & (work.microbatch < self.shape.microbatches)


def _run(ticks: _Ticks) -> tuple[PipelineLoss, tuple[Floats, Floats]]:
    """Returns the loss, and its gradients by params and outer."""
    shape = ticks.shape
    ramp = jnp.arange(shape.stages - 1)
    carry, first = jax.lax.scan(ticks.warm_up, ticks.start(), ramp)
    turns = jnp.arange(shape.stages - 1, shape.ticks)
    carry, (following, finish) = jax.lax.scan(ticks.both, carry, turns)
    carry, _ = jax.lax.scan(ticks.drain, carry, ramp + shape.ticks)
    stages, begin = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, following)
    loss = PipelineLoss(
        total=carry.loss,
        stages=when_done(stages, shape.done_at()),
        begin=jax.tree.map(lambda x: x[: shape.microbatches], begin),
        finish=finish,
    )
    floats = (ticks.params, ticks.outer)
    return loss, jax.tree.map(lambda g, x: g.astype(x.dtype), carry.gradients, floats)


def _add(total: Floats, more: Floats) -> Floats:
    return [t + m.astype(jnp.float32) for t, m in zip(total, more, strict=True)]
