"""`axl kernels`: what computes each op of a training step, and why nothing else does."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from axlearn_core.cli.experiment import (
    as_json_option,
    build_trainer,
    experiment_arguments,
    print_json,
)
from axlearn_core.cli.machine import choose_mesh_rule, mesh_choice, start
from axlearn_core.plan.target import Target, parse_target
from axlearn_core.plugins import get_registry

if TYPE_CHECKING:
    from axlearn_core.kernels import Candidate, Choice
    from axlearn_core.parallel import Placement
    from axlearn_core.training.trainer import Trainer


@click.command()
@experiment_arguments
@click.option(
    "--hardware",
    metavar="PLATFORM-CHIP-COUNT",
    help="Such as tpu-v5p-64, gpu-h100-8 or cpu.  [default: this machine]",
)
@as_json_option
def kernels(
    experiment: str, overrides: tuple[str, ...], hardware: str | None, as_json: bool
) -> None:
    """Show what computes each op of EXPERIMENT's training step, and why nothing else does.

    The step is traced, not compiled, so neither the hardware nor its libraries need be here.
    Sizes are those of one device.
    """
    registry = get_registry()
    if hardware is None:
        target, rule = None, choose_mesh_rule(start(registry), registry)
    else:
        os.environ["JAX_PLATFORMS"] = "cpu"  # read when jax is imported, which is later
        target = parse_target("cpu-1" if hardware == "cpu" else hardware, registry)
        rule = mesh_choice(target.hardware.platform, target.chip, target.count, registry)
    from axlearn_core.training.assemble import assemble

    trainer = build_trainer(assemble(experiment, overrides, registry, mesh_rule=rule).config)
    placement = _placement(trainer, target) if target else trainer.placement()
    mesh = {axis: size for axis, size in placement.mesh.shape.items() if size > 1}
    groups = list(_grouped(_choices(trainer, placement)))
    if as_json:
        ops = [_described(choices, candidates) for choices, candidates in groups]
        print_json(
            {"experiment": experiment, "machine": rule.machine, "mesh": mesh, "choices": ops}
        )
        return
    click.echo(f"{experiment} on {rule}, mesh {mesh or 'of 1 device'}; sizes are of one device")
    for choices, candidates in groups:
        click.echo()
        for choice in choices:
            click.echo(choice.spec)
        for candidate in candidates:
            click.echo(_line(candidate, choices[0].forced))


def _placement(trainer: Trainer, target: Target) -> Placement:
    """Returns a mesh without devices."""
    from jax.sharding import AbstractDevice, AbstractMesh

    from axlearn_core.parallel import Placement

    cfg = trainer.config
    shape, _ = target.mesh_sizes(cfg.mesh_shape, cfg.slow_mesh_shape)
    device = AbstractDevice(target.chip.name, None, target.hardware.platform)
    mesh: Any = AbstractMesh(tuple(shape.values()), tuple(shape), abstract_device=device)
    return Placement(mesh, cfg.sharding_rules)


def _choices(trainer: Trainer, placement: Placement) -> list[Choice]:
    import jax

    from axlearn_core.kernels import recording_choices
    from axlearn_core.parallel import placing

    shape = trainer.input.batch_shape()
    program = trainer.program(placement)
    program.check_batch("input", shape, accumulation=trainer.config.accumulation)
    with placing(placement), recording_choices(choosing_only=True) as choices:
        jax.eval_shape(program.train_step(), program.state, program.batch_structs(shape))
    return choices


def _grouped(choices: list[Choice]) -> Iterator[tuple[list[Choice], list[Candidate]]]:
    """Puts choices together of which all that is said is the same; ops in their first order."""
    from axlearn_core.kernels import candidates_of

    groups: dict[Any, list[Choice]] = {}
    for choice in choices:
        groups.setdefault((choice.op, choice.forced, tuple(candidates_of(choice))), []).append(
            choice
        )
    order = list(dict.fromkeys(choice.op for choice in choices))
    for (_, _, candidates), members in sorted(groups.items(), key=lambda g: order.index(g[0][0])):
        yield members, list(candidates)


def _line(candidate: Candidate, forced: bool) -> str:
    if candidate.chosen:
        said = "forced" if forced else "chosen"
    elif candidate.reason is None:
        said = "could, and was not asked" + ("" if forced else ": its priority is lower")
    else:
        said = f"no: {candidate.reason}"
    name, priority = candidate.name, candidate.priority
    head = f"  {name:<44} {'' if priority is None else priority:>3}  "
    return textwrap.fill(said, 120, initial_indent=head, subsequent_indent=" " * len(head))


def _described(choices: list[Choice], candidates: list[Candidate]) -> dict[str, Any]:
    return {
        "op": choices[0].op,
        "specs": [str(choice.spec) for choice in choices],
        "forced": choices[0].forced,
        "candidates": [
            {"name": c.name, "priority": c.priority, "chosen": c.chosen, "reason": c.reason}
            for c in candidates
        ],
    }
