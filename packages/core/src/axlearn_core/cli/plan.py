"""`axl plan`: whether an experiment fits hardware that is not here, and how fast it would be."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from axlearn_core.cli.experiment import (
    as_json_option,
    build_trainer,
    overrides_argument,
    print_json,
)
from axlearn_core.cli.machine import mesh_choice
from axlearn_core.errors import UserError
from axlearn_core.hardware import apply_environment
from axlearn_core.plan.record import Plan
from axlearn_core.plan.saved import from_json, to_json
from axlearn_core.plan.target import Target, parse_target
from axlearn_core.plugins import Registry, get_registry

if TYPE_CHECKING:
    from axlearn_core.training.trainer import Trainer


@click.command()
@click.argument("experiment", required=False)
@overrides_argument
@click.option("--hardware", metavar="MACHINE", help="Such as tpu-v5p-64, gpu-h100-32 or cpu-8.")
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the plan to a file: .html for a page with charts, .json to compare.",
)
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="Instead, what differs: each a saved .json, or a MACHINE to plan EXPERIMENT on.",
)
@click.option("--search", is_flag=True, help="Try meshes, micro-batches and recomputation.")
@click.option("--fit", metavar="CHIP-*", help="Find the smallest that fits, such as 'gpu-h100-*'.")
@click.option(
    "--compile",
    "compiled",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="How many plans --search compiles; with 0 it and --fit leave it at arithmetic.",
)
@as_json_option
def plan(
    experiment: str | None,
    overrides: tuple[str, ...],
    hardware: str | None,
    save: Path | None,
    compare: tuple[str, str] | None,
    search: bool,
    fit: str | None,
    compiled: int,
    as_json: bool,
) -> None:
    """Plan EXPERIMENT on a MACHINE that need not be here.

    Compiles the step that `axl train` would run there, and says what it needs: memory, arithmetic,
    traffic, time. Nothing is allocated and nothing runs. Each PATH=VALUE changes the config.
    """
    if save and save.suffix not in _WRITERS:
        raise click.UsageError(f"--save writes .html or .json, not {save.name}")
    if compare:
        if hardware or save:
            raise click.UsageError("--compare takes its machines itself, and saves nothing")
        _compare(compare, experiment, overrides, as_json)
        return
    if search or fit:
        if save or (search and fit) or (fit and hardware):
            raise click.UsageError("--search and --fit go without each other and without --save")
        if experiment is None or not (fit or hardware):
            raise click.UsageError("give an EXPERIMENT, and with --search also --hardware MACHINE")
        from axlearn_core.cli.plan_search import find_smallest, search_on

        if fit:
            find_smallest(fit, experiment, overrides, compiled, as_json)
        elif hardware:
            search_on(hardware, experiment, overrides, compiled, as_json)
        return
    if experiment is None or hardware is None:
        raise click.UsageError("give an EXPERIMENT and --hardware MACHINE, such as cpu-8")
    (made,) = _plans([hardware], experiment, overrides)
    if save:
        save.write_text(_WRITERS[save.suffix](made), encoding="utf-8")
    if as_json:
        print_json(to_json(made))
        return
    from axlearn_core.cli.plan_report import report

    click.echo(report(made))
    if save:
        click.echo(f"\nsaved {save}")


def _compare(
    words: tuple[str, str], experiment: str | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    from axlearn_core.cli.plan_comparison import comparison

    machines = [word for word in words if not word.endswith(".json")]
    if machines and experiment is None:
        raise click.UsageError(f"give an EXPERIMENT to plan on {' and '.join(machines)}")
    made = dict(zip(machines, _plans(machines, experiment or "", overrides), strict=True))
    first, second = (made[word] if word in made else from_json(_read(word), word) for word in words)
    if as_json:
        print_json({"a": to_json(first), "b": to_json(second)})
    else:
        click.echo(comparison(first, second))


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}") from error


def _plans(machines: Sequence[str], experiment: str, overrides: tuple[str, ...]) -> list[Plan]:
    """Plans one experiment on machines of any platforms, in this process."""
    registry = get_registry()
    targets = [parse_target(machine, registry) for machine in machines]
    for target in targets:  # all of them, before any starts jax
        prepare(target)
    return [plan_on(target.with_devices(), experiment, overrides, registry) for target in targets]


def prepare(target: Target) -> None:
    """Sets what the compiler for a target wants. Call it before anything starts jax."""
    for note in apply_environment(target.hardware, os.environ, target.compile_settings):
        click.echo(note, err=True)


def plan_on(
    target: Target, experiment: str, overrides: tuple[str, ...], registry: Registry
) -> Plan:
    """Plans one experiment, changed by the mesh rule of the target's name and by overrides."""
    from axlearn_core.plan.planning import make_plan

    trainer = trainer_on(target, experiment, overrides, registry)
    return make_plan(trainer, target, experiment=experiment, overrides=overrides)


def trainer_on(
    target: Target, experiment: str, overrides: tuple[str, ...], registry: Registry
) -> Trainer:
    """Builds the trainer that `axl train` would build on the target."""
    from axlearn_core.training.assemble import assemble

    rule = mesh_choice(target.hardware.platform, target.chip, target.count, registry)
    return build_trainer(assemble(experiment, overrides, registry, mesh_rule=rule).config)


def _json_text(made: Plan) -> str:
    return json.dumps(to_json(made), indent=2) + "\n"


def _page(made: Plan) -> str:
    from axlearn_core.cli.plan_page import page

    return page(made)


_WRITERS = {".html": _page, ".json": _json_text}
