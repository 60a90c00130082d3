"""`axl drill`: what a run does with each fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click

from axlearn_core.cli.experiment import as_json_option, experiment_arguments, print_json
from axlearn_core.cli.text import counted, table
from axlearn_core.drill import Drill
from axlearn_core.drill.drill import Outcome
from axlearn_core.drill.faults import Fault, chosen
from axlearn_core.drill.hosts import why_no_hosts
from axlearn_core.launch.local import Local

# Few steps, each of them compared, with saves among them; what the user writes comes after it.
_SHORT = ("max_step=20", "checkpoint.every=4", "log_every=1", "guards.watchdog.timeout=60")


@click.command()
@experiment_arguments
@click.option("--faults", multiple=True, help="Those whose names begin so.  [default: all]")
@click.option("--repeat", default=1, help="Each so often, at other random points.")
@click.option("--seed", default=0, help="Of what is random.")
@click.option("--processes", default=1, help="Of each run.")
@click.option("--devices-per-process", type=int, help="Of each process.")
@click.option("--spares", default=0, help="Places for a process that was lost.")
@click.option("--limit", default=600, help="Seconds after which a session counts as hung.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="For the runs.  [default: drills/EXPERIMENT]",
)
@as_json_option
@click.pass_context
def drill(
    ctx: click.Context,
    experiment: str,
    overrides: tuple[str, ...],
    faults: tuple[str, ...],
    repeat: int,
    seed: int,
    processes: int,
    devices_per_process: int | None,
    spares: int,
    limit: int,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Strike runs of EXPERIMENT with faults, and compare how they end with one left alone.

    By default a run is of 20 steps and saves every 4: PATH=VALUE, such as max_step=100, changes it.
    The exit code is 1 if one fault was not survived with the same bits.
    """
    picked = _possible(chosen(faults, processes))
    local = Local.Config(
        processes=processes, devices_per_process=devices_per_process, spares=spares
    ).instantiate()
    directory = directory or Path("drills") / experiment.replace(":", ".")
    made = Drill(experiment, (*_SHORT, *overrides), directory, local, seed=seed, limit=limit)
    outcomes = []
    _say(as_json, f"undisturbed: {made.undisturbed():.1f} s")
    for number in range(repeat):
        for fault in picked:
            outcomes.append(made.run(fault, number))
            _say(as_json, f"{fault.name}: {_verdict(outcomes[-1])}")
    if as_json:
        print_json([{**dataclasses.asdict(o), "survived": o.survived} for o in outcomes])
    else:
        click.echo(_table(outcomes))
        click.echo(_summary(outcomes, directory))
    ctx.exit(0 if all(outcome.survived for outcome in outcomes) else 1)


def _possible(faults: Sequence[Fault]) -> list[Fault]:
    """Returns those that this machine can make, and says why it cannot make the others."""
    reason = why_no_hosts() if any(fault.on_hosts for fault in faults) else None
    if reason is None:
        return list(faults)
    for fault in faults:
        if fault.on_hosts:
            click.echo(f"{fault.name}: not offered, since {reason}", err=True)
    return [fault for fault in faults if not fault.on_hosts]


def _say(quiet: bool, line: str) -> None:
    if not quiet:
        click.echo(line)


def _table(outcomes: Sequence[Outcome]) -> str:
    header = ("fault", "what happened", "detect", "restore", "replayed", "verdict")
    rows = [
        (
            outcome.fault,
            outcome.happened,
            _seconds(outcome.detect),
            _seconds(outcome.restore),
            counted(outcome.replayed, "step"),
            _verdict(outcome).partition(":")[0],
        )
        for outcome in outcomes
    ]
    return table(header, rows)


def _verdict(outcome: Outcome) -> str:
    if outcome.survived:
        return "same bits" if outcome.struck else "not struck"
    differs = f"differs in {', '.join(outcome.differences)}" if outcome.differences else ""
    return f"FAILED: {'; '.join(filter(None, [outcome.problem, differs]))}"


def _summary(outcomes: Sequence[Outcome], directory: Path) -> str:
    failed = [outcome for outcome in outcomes if not outcome.survived]
    if not failed:
        struck = counted(sum(outcome.struck for outcome in outcomes), "fault")
        return f"{struck} struck: each run ended with the bits of the undisturbed one"
    names = ", ".join(outcome.fault for outcome in failed)
    return (
        f"{len(failed)} of {counted(len(outcomes), 'fault')} not survived: {names}. What those "
        f"runs left is in {directory}, what they passed in {directory / 'logs'}"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
