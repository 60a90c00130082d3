"""The pipeline that owns the loss: one forward, one backward (1F1B)."""

from __future__ import annotations

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
        functions = _Functions(
            lambda own, work, x: stage(ours.join(*own), data, work, x),
            lambda held, m: begin(theirs.join(held, rest[1]), data, m),
            lambda held, m, y: finish(theirs.join(held, rest[1]), data, m, y),
        )
        return _run(functions, floats, rest[0], shape)

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


class _Functions(NamedTuple):
    stage: Callable[[tuple[Floats, Floats], Work, jax.Array], Any]
    begin: Callable[[Floats, jax.Array], Any]
    finish: Callable[[Floats, jax.Array, jax.Array], Any]


class _Carry(NamedTuple):
    x: jax.Array  # [stages, rows, seq, ...], what each stage reads next
    kept: jax.Array  # [2 S - 1, stages, rows, seq, ...], what it read: that of tick t at t mod 2S-1
    gradient: jax.Array  # [stages, rows, seq, ...], by what the stage before the next one wrote
    loss: jax.Array  # [] float32
    gradients: tuple[Floats, Floats]  # float32, by params and outer


def _run(
    functions: _Functions, floats: tuple[Floats, Floats], rest: Floats, shape: PipelineShape
) -> tuple[PipelineLoss, tuple[Floats, Floats]]:
    stages, count = shape.stages, shape.microbatches
    params, outer = floats
    numbers = jnp.arange(stages)
    slots = 2 * stages - 1
    run = over_stages(lambda params, rest, work, x: functions.stage((params, rest), work, x))

    def forwards(carry: _Carry, tick: jax.Array) -> tuple[_Carry, jax.Array, Any]:
        fresh, begin_side = functions.begin(outer, tick)
        x = stages_placed(with_stage(0, carry.x, fresh))
        kept = jax.lax.dynamic_update_index_in_dim(carry.kept, x, tick % slots, 0)
        work = shape.work(tick, numbers)
        (y, added), side = run(params, rest, work, x)
        loss = carry.loss + jnp.sum(jnp.where(_is_real(work, count), added, 0))
        y = stages_placed(y)
        carry = carry._replace(x=jnp.roll(y, 1, axis=0), kept=kept, loss=loss)
        return carry, y, (side, begin_side)

    def turn(carry: _Carry, tick: jax.Array, y: jax.Array) -> tuple[_Carry, Any]:
        """From the last stage's output to its gradient."""
        loss_of = jax.value_and_grad(functions.finish, argnums=(0, 2), has_aux=True)
        microbatch = tick - (stages - 1)
        (loss, side), (held, gradient) = loss_of(outer, microbatch, of_stage(stages - 1, y))
        mine, theirs = carry.gradients
        return carry._replace(
            gradient=stages_placed(with_stage(stages - 1, carry.gradient, gradient)),
            loss=carry.loss + loss,
            gradients=(mine, _add(theirs, held)),
        ), side

    def backwards(carry: _Carry, tick: jax.Array) -> _Carry:
        first = tick - 2 * (stages - 1)
        work = Work(numbers, jnp.zeros_like(numbers), first + numbers)
        read_in = (work.microbatch + numbers) % slots
        is_real = _is_real(work, count)
        x = jax.vmap(microbatch_of, in_axes=(1, 0))(carry.kept, read_in)

        def pull(
            params: Floats, rest: Floats, work: Work, x: jax.Array, dy: jax.Array, yes: jax.Array
        ) -> tuple[Floats, jax.Array]:
            _, pullback, _ = jax.vjp(
                lambda params, x: functions.stage((params, rest), work, x), params, x, has_aux=True
            )
            pulled: tuple[Floats, jax.Array] = pullback(
                (jnp.where(yes, dy, 0), yes.astype(jnp.float32))
            )
            return pulled

        added, dx = over_stages(pull)(params, rest, work, stages_placed(x), carry.gradient, is_real)
        mine, theirs = carry.gradients
        _, pullback = jax.vjp(lambda outer: functions.begin(outer, first)[0], outer)
        (held,) = pullback(of_stage(0, dx))
        return carry._replace(
            gradient=jnp.roll(stages_placed(dx), -1, axis=0),
            gradients=(_add(mine, added), _add(theirs, held)),
        )

    def warm_up(carry: _Carry, tick: jax.Array) -> tuple[_Carry, Any]:
        carry, _, sides = forwards(carry, tick)
        return carry, sides

    def both(carry: _Carry, tick: jax.Array) -> tuple[_Carry, Any]:
        carry, y, sides = forwards(carry, tick)
        carry, side = turn(carry, tick, y)
        return backwards(carry, tick), (sides, side)

    def drain(carry: _Carry, tick: jax.Array) -> tuple[_Carry, None]:
        return backwards(carry, tick), None

    carry = _start(functions.begin(outer, jnp.int32(0))[0], floats, stages, slots)
    turns = jnp.arange(stages - 1, shape.ticks)
    carry, first = jax.lax.scan(warm_up, carry, jnp.arange(stages - 1))
    carry, (rest_of, finish) = jax.lax.scan(both, carry, turns)
    carry, _ = jax.lax.scan(drain, carry, jnp.arange(stages - 1) + shape.ticks)
    sides, begin = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, rest_of)
    loss = PipelineLoss(
        total=carry.loss,
        stages=when_done(sides, shape.done_at()),
        begin=jax.tree.map(lambda x: x[:count], begin),
        finish=finish,
    )
    return loss, jax.tree.map(lambda g, x: g.astype(x.dtype), carry.gradients, floats)


def _start(x: jax.Array, floats: tuple[Floats, Floats], stages: int, slots: int) -> _Carry:
    """Stages without work read a real microbatch too, so that they are as finite as all others."""
    everywhere = stages_placed(jnp.broadcast_to(x, (stages, *x.shape)))
    return _Carry(
        x=everywhere,
        kept=jnp.broadcast_to(everywhere, (slots, *everywhere.shape)),
        gradient=jnp.zeros_like(everywhere),
        loss=jnp.zeros((), jnp.float32),
        gradients=jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), floats),
    )


def _is_real(work: Work, count: int) -> jax.Array:
    return (work.microbatch >= 0) & (work.microbatch < count)


def _add(total: Floats, more: Floats) -> Floats:
    return [t + m.astype(jnp.float32) for t, m in zip(total, more, strict=True)]
