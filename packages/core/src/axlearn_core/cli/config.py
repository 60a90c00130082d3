"""`axl config`: what an experiment sets, where, and what else could be set."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from axlearn_core.cli.experiment import as_json_option, experiment_arguments, print_json
from axlearn_core.cli.machine import MeshChoice, choose_mesh_rule, mesh_choice, start
from axlearn_core.cli.plot import curve
from axlearn_core.cli.text import table
from axlearn_core.config import (
    ConfigBase,
    ConfigError,
    declared,
    format_value,
    near_names,
    paths,
    to_json,
    to_text,
    where,
)
from axlearn_core.config.text import flat
from axlearn_core.plan.target import parse_target
from axlearn_core.plugins import get_registry


@click.group()
def config() -> None:
    """Show and compare configs."""


@config.command()
@experiment_arguments
@click.option(
    "--hardware",
    metavar="PLATFORM-CHIP-COUNT",
    help="As its mesh rule makes it, such as tpu-v5p-64 or gpu-h100-8.  [default: this machine]",
)
@click.option("--full", is_flag=True, help="All values, not only those that differ from defaults.")
@click.option("--plot", metavar="PATH", help="Instead, draw the schedule at a path over the steps.")
@as_json_option
def show(
    experiment: str,
    overrides: tuple[str, ...],
    hardware: str | None,
    full: bool,
    plot: str | None,
    as_json: bool,
) -> None:
    """Show what EXPERIMENT sets: canonical text, without defaults."""
    cfg, rule = _assembled(experiment, overrides, hardware)
    if plot is not None:
        if full:
            raise click.UsageError("--plot shows one schedule; leave out --full")
        drawn = curve(cfg, plot)
        click.echo(json.dumps(drawn.json()) if as_json else drawn.text())
    elif as_json:
        click.echo(to_json(cfg, get_registry()))
    elif full:
        click.echo("\n".join(f"{path}: {value}" for path, value in flat(cfg).items()))
    else:
        click.echo(to_text(cfg), nl=False)
    click.echo(f"machine {rule}", err=True)


@config.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@as_json_option
def diff(first: str, second: str, as_json: bool) -> None:
    """List what differs from A to B, each an experiment or the directory of a run."""
    before, after = _values(first), _values(second)
    differing = sorted(p for p in before | after if before.get(p) != after.get(p))
    if as_json:
        print_json([{"path": p, "old": before.get(p), "new": after.get(p)} for p in differing])
        return
    for path in differing:
        old, new = before.get(path, "(absent)"), after.get(path, "(absent)")
        click.echo(f"{path}: {old} -> {new}")
    if not differing:
        click.echo(f"{first} and {second} have the same config")


@config.command("where")
@click.argument("experiment")
@click.argument("path")
@click.argument("overrides", nargs=-1, metavar="[PATH=VALUE]...")
def where_set(experiment: str, path: str, overrides: tuple[str, ...]) -> None:
    """Say where the value at PATH of EXPERIMENT was set."""
    cfg, _ = _assembled(experiment, overrides)
    origin = where(cfg, path)
    click.echo(f"{path}: {_shown(dict(paths(cfg))[path])}\n  {origin}")


@config.command()
@click.argument("experiment")
@click.argument("pattern", metavar="[GLOB]", default="*")
@as_json_option
def keys(experiment: str, pattern: str, as_json: bool) -> None:
    """List every path that an override of EXPERIMENT can set, with type and value.

    GLOB selects some, such as '*rate*' or 'learner.*'.
    """
    cfg, _ = _assembled(experiment, ())
    known = dict(paths(cfg))
    chosen = [path for path in known if fnmatch.fnmatchcase(path, pattern)]
    if not chosen:
        raise ConfigError(
            f"no path of {experiment} matches {pattern!r}.{near_names(pattern, known)}"
        )
    rows = [(path, declared(cfg, path), _shown(known[path])) for path in chosen]
    if as_json:
        print_json([dict(zip(("path", "type", "value"), row, strict=True)) for row in rows])
    else:
        click.echo(table(("path", "type", "value"), rows))


def _assembled(
    experiment: str, overrides: Sequence[str], hardware: str | None = None
) -> tuple[ConfigBase, MeshChoice]:
    registry = get_registry()
    if hardware is None:
        rule = choose_mesh_rule(start(registry), registry)
    else:
        os.environ["JAX_PLATFORMS"] = "cpu"  # read when jax is imported, which is later
        target = parse_target(hardware, registry)
        rule = mesh_choice(target.hardware.platform, target.chip, target.count, registry)
    from axlearn_core.training.assemble import assemble

    return assemble(experiment, overrides, registry, mesh_rule=rule).config, rule


def _values(name: str) -> dict[str, str]:
    """Returns the values by path of an experiment, or of the run in a directory."""
    from axlearn_core.training.run_directory import RUN

    if not Path(name).is_dir():
        return flat(_assembled(name, ())[0])
    try:
        values: dict[str, str] = json.loads((Path(name) / RUN).read_text(encoding="utf-8"))[
            "config"
        ]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{name} is not the directory of a run: {error}") from error
    return values


def _shown(value: object) -> str:
    """A component is shown as its class; what it holds has paths of its own."""
    if isinstance(value, ConfigBase):
        return type(value).__qualname__.removesuffix(".Config")
    return format_value(value)
