"""`axl launch`: starts a run on several processes, here or on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import click

from axlearn_core.cli.experiment import experiment_arguments
from axlearn_core.config import near_names
from axlearn_core.config.tree import annotation_at
from axlearn_core.launch import Job, Launcher
from axlearn_core.plugins import Registered, TargetError, get_registry
from axlearn_core.plugins.reference import meanings


class LauncherGroup(click.Group):
    """A command for each launcher that a plugin provides."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [component.name for component in get_registry().records("launcher")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if not any(component.kind == "launcher" for component in get_registry().resolve(cmd_name)):
            near = near_names(cmd_name, self.list_commands(ctx))
            ctx.fail(f"there is no launcher {cmd_name!r}.{near} `axl launch --help` lists them.")
        return _command(get_registry().get("launcher", cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the launchers from their records, without importing them."""
        with formatter.section("Launchers"):
            records = get_registry().records("launcher")
            formatter.write_dl([(c.name, c.record.summary) for c in records])


@click.group(cls=LauncherGroup)
def launch() -> None:
    """Start an experiment on several processes, here or on a cluster."""


def _command(component: Registered) -> click.Command:
    launcher = component.load()
    if not (isinstance(launcher, type) and issubclass(launcher, Launcher)):
        raise TargetError(
            f"launcher {component.qualified_name} must be a subclass of Launcher; "
            f"{component.record.target} is {launcher!r}"
        )
    fields = dict(launcher.default_config().items())

    @experiment_arguments
    @click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path),
        help="Of the run, shared by all processes.  [default: runs/EXPERIMENT]",
    )
    @click.option("--dry-run", is_flag=True, help="Print what would be submitted or run.")
    @click.pass_context
    def command(
        ctx: click.Context,
        /,
        experiment: str,
        overrides: tuple[str, ...],
        directory: Path | None,
        dry_run: bool,
        **chosen: Any,
    ) -> None:
        given = {name: list(v) if isinstance(v, tuple) else v for name, v in chosen.items() if v}
        built: Launcher = launcher.default_config().set(**given).instantiate()
        directory = directory or Path("runs") / experiment.replace(":", ".")
        job = Job(experiment, overrides, directory.absolute())
        if dry_run:
            click.echo(built.text(job))
        else:
            ctx.exit(built.launch(job))

    made: click.Command = click.command(component.name, help=component.record.summary)(command)
    help_of = meanings(launcher.Config)
    made.params += [_option(launcher, fields, name, help_of.get(name, "")) for name in fields]
    return made


def _option(
    launcher: type[Launcher], fields: Mapping[str, Any], name: str, meaning: str
) -> click.Option:
    annotation = annotation_at(launcher.default_config(), (name,))
    kinds = {annotation, *get_args(annotation)}
    default = fields[name]
    shown = f"  [default: {default}]" if isinstance(default, (int, str)) and default else ""
    options: dict[str, Any] = {"help": f"{meaning[:1].upper()}{meaning[1:]}{shown}"}
    if annotation is bool:
        options["is_flag"] = True
    elif isinstance(default, list):
        options["multiple"] = True
    elif int in kinds:
        options["type"] = int
    return click.Option([f"--{name.replace('_', '-')}", name], **options)
