"""Makes one step of a run again, to look into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.checkpoint import CheckpointInfo, checkpoints, choose
from axlearn_core.checkpoint.checkpointer import read_facts
from axlearn_core.config import apply_overrides
from axlearn_core.errors import UserError
from axlearn_core.guards.locate import locate
from axlearn_core.guards.offence import Offence, load_batch, load_offence
from axlearn_core.parallel import placing
from axlearn_core.plugins import Registry
from axlearn_core.training.compile_cache import use_compile_cache
from axlearn_core.training.model import Batch
from axlearn_core.training.offload import on_device
from axlearn_core.training.program import Program
from axlearn_core.training.resume import restore_state
from axlearn_core.training.saved_run import config_of_run, saved_config
from axlearn_core.training.share import local_batches, place_batch
from axlearn_core.training.state import TrainState
from axlearn_core.training.trainer import Trainer


class Replayed(NamedTuple):
    """What one step gave.

    Attributes:
        loss: nats per target token.
        gradient_norms: by the top-level group of parameters.
        where: where the first value arises that is not finite, None if all are finite.
    """

    loss: float
    gradient_norms: dict[str, float]
    where: str | None


def replay(
    directory: Path,
    step: int,
    registry: Registry,
    *,
    overrides: Sequence[str] = (),
    say: Callable[[str], None],
) -> Replayed:
    """Makes the steps from the checkpoint before up to `step`, and looks into that one.

    With the batch that was kept of it, if it was no good; else with the input's, which is the same.

    Args:
        directory: of a run, which stays as it is.
        step: from 1.
        registry: resolves the config's components.
        overrides: `path=value` words for the config.
        say: takes a line of what is done.

    Raises:
        UserError: if there is no such step, or no way to come to it.
    """
    if step < 1:
        raise UserError(f"steps are counted from 1, got {step}")
    offence = load_offence(directory, step)
    before = _checkpoint_before(directory, step)
    config = saved_config(before, registry) if before else config_of_run(directory, registry)
    trainer: Trainer = apply_overrides(
        config.set(writers=[], evaluations={}), overrides, resolve=registry.lookup
    ).instantiate()
    use_compile_cache(trainer.config.compile_cache)
    program = trainer.program(trainer.placement())
    facts = read_facts(before.path) if before else {}
    state = restore_state(before.path, facts, program) if before else program.initial_state()
    first = before.step if before else 0
    say(f"from the checkpoint of step {first}" if before else "from the beginning")
    batches = local_batches(trainer.input, program.placement)
    if (place := _place_in_data(first, facts, offence)) is not None:
        batches.set_state(place)
    if first + 1 < step:
        say(f"making the steps {first + 1} to {step - 1}")
        train_step = program.compile_train_step(trainer.input.batch_shape()).result().run
        for _ in range(first + 1, step):
            state, _ = train_step(state, place_batch(next(batches), program.placement))
    batch = load_batch(directory, step)
    say(f"step {step}, with {'the input’s batch' if batch is None else 'the batch that was kept'}")
    batch = next(batches) if batch is None else batch
    return _looked_into(program, state, place_batch(batch, program.placement))


def _checkpoint_before(directory: Path, step: int) -> CheckpointInfo | None:
    """Returns the newest complete checkpoint before a step, None if there is none.

    Raises:
        UserError: if it is damaged.
    """
    steps = [info.step for info in checkpoints(directory) if info.status == "complete"]
    earlier = [each for each in steps if each < step]
    return choose(directory, max(earlier)).info if earlier else None


def _place_in_data(
    first: int, facts: Mapping[str, Any], offence: Offence | None
) -> Mapping[str, Any] | None:
    """Returns where the data went on: after a rewind not where the checkpoint says."""
    if offence is not None and offence.attempt.step == first:
        return offence.attempt.input_state
    return facts.get("input")


def _looked_into(program: Program, state: TrainState, batch: Batch) -> Replayed:
    gradients = program.gradients()
    state = on_device(state, program.state)
    with placing(program.placement):
        found = jax.jit(gradients)(state, batch)
        norms = {
            name: float(np.sqrt(sum(_squares(x) for x in jax.tree.leaves(grads))))
            for name, grads in found.grads.items()
        }
        where = locate(gradients, state, batch, found)
    return Replayed(float(found.metrics["loss"]), norms, where)


def _squares(x: jax.Array) -> float:
    return cast(float, jnp.sum(jnp.square(x.astype(jnp.float32))).item())
