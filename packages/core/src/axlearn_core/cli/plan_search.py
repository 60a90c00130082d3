"""`axl plan --search` and `--fit`: which of many plans to take."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from axlearn_core.cli.experiment import print_json
from axlearn_core.cli.plan import plan_on, prepare, trainer_on
from axlearn_core.cli.plan_report import advices, between, report, seconds, verdict
from axlearn_core.cli.text import table
from axlearn_core.observe.progress import size
from axlearn_core.plan.record import Plan
from axlearn_core.plan.saved import to_json
from axlearn_core.plan.target import Target, parse_target
from axlearn_core.plugins import get_registry

if TYPE_CHECKING:
    from axlearn_core.plan.fit import Fit
    from axlearn_core.plan.search import Outcome
    from axlearn_core.training.trainer import Trainer


def search_on(
    machine: str, experiment: str, overrides: tuple[str, ...], compiled: int, as_json: bool
) -> None:
    """Searches on one machine and prints what no other plan beats."""
    registry = get_registry()
    target = parse_target(machine, registry)
    prepare(target)
    from axlearn_core.plan.planning import make_plan
    from axlearn_core.plan.search import search

    def build(added: Sequence[str]) -> Trainer:
        return trainer_on(target, experiment, (*overrides, *added), registry)

    def compile_one(trainer: Trainer, target: Target, words: tuple[str, ...]) -> Plan:
        return make_plan(trainer, target, experiment=experiment, overrides=words)

    if compiled:
        target = target.with_devices()
    if target.reason:
        click.echo(f"not compiled: {target.reason}", err=True)
    outcome = search(
        build,
        target,
        registry,
        experiment=experiment,
        overrides=overrides,
        compile=compile_one if target.devices is not None else None,
        count=compiled,
        say=lambda line: click.echo(line, err=True),
    )
    if as_json:
        print_json([to_json(found.plan) for found in outcome.front])
    else:
        click.echo("\n".join(_front(outcome, experiment, machine)))


def _front(outcome: Outcome, experiment: str, machine: str) -> Iterator[str]:
    yield f"{outcome.tried} plans of {experiment} on {machine}, {outcome.fitting} of them fit"
    if not outcome.front:
        if outcome.least:
            plan = outcome.least.plan
            yield f"the least memory: {size(plan.memory.peak)} {verdict(plan.memory)}"
            yield from (f"  {word}" for word in outcome.least.candidate.overrides)
        yield f"find a machine that is large enough: axl plan {experiment} --fit '{_any(machine)}'"
        return
    rows = []
    for number, found in enumerate(outcome.front, 1):
        plan = found.plan
        rows.append(
            (
                str(number),
                between(plan.step_seconds, seconds) if plan.step_seconds else "unknown",
                between(plan.mfu, "{:.0%}".format) if plan.mfu else "unknown",
                size(plan.memory.peak),
                plan.times.binding or "unknown",
                plan.method,
            )
        )
    yield ""
    yield table(("", "step", "MFU", "memory", "binds", "by"), rows)
    yield ""
    yield "to train with one of them, add its line to the command:"
    for number, found in enumerate(outcome.front, 1):
        yield f"  {number}  {shlex.join(found.candidate.overrides)}"


def find_smallest(
    machines: str, experiment: str, overrides: tuple[str, ...], compiled: int, as_json: bool
) -> None:
    """Prints the plan for the fewest devices of a chip on which an experiment fits."""
    from axlearn_core.plan.fit import fit, matching_targets

    registry = get_registry()
    targets = matching_targets(machines, registry)
    prepare(targets[-1])
    from axlearn_core.plan.arithmetic import plan_by_arithmetic

    def arithmetic(target: Target) -> Plan:
        trainer = trainer_on(target, experiment, overrides, registry)
        return plan_by_arithmetic(trainer, target, experiment=experiment, overrides=overrides)

    found = fit(targets, arithmetic)
    for line in _tried(found):
        click.echo(line, err=True)
    if found.smallest is None:
        last = next((one.plan for one in reversed(found.tried) if one.plan), None)
        click.echo("it fits none of them")
        for advice in advices(last) if last else ():
            click.echo(f"  try: {advice}")
        return
    smallest = found.smallest
    if compiled:
        target = found.tried[-1].target.with_devices()
        smallest = plan_on(target, experiment, overrides, registry)
    if as_json:
        print_json(to_json(smallest))
        return
    click.echo(f"the smallest that fits: {smallest.target}\n")
    click.echo(report(smallest))


def _tried(found: Fit) -> Iterator[str]:
    for one in found.tried:
        if one.plan is None:
            yield f"{one.target.name}: {one.problem}"
        else:
            yield f"{one.target.name}: {size(one.plan.memory.peak)} {verdict(one.plan.memory)}"


def _any(machine: str) -> str:
    return f"{machine.rpartition('-')[0]}-*"
