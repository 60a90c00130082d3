"""`axl`: finds a sub-command, imports only that one, and says in one message what went wrong."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from axlearn_core.config import near_names
from axlearn_core.errors import UserError
from axlearn_core.plugins import CommandRecord, Registered, TargetError, get_registry

# Core's own commands. They are here and not in `_plugin.py`, so that they work, and can say what is
# wrong, when plugins do not; a plugin's command of the same name needs its qualified name.
COMMANDS: Final[tuple[CommandRecord, ...]] = (
    CommandRecord("train", "axlearn_core.cli.train:train", "Train an experiment."),
    CommandRecord("plan", "axlearn_core.cli.plan:plan", "Plan on hardware that is not here."),
    CommandRecord("launch", "axlearn_core.cli.launch:launch", "Train on several processes."),
    CommandRecord("watch", "axlearn_core.cli.watch:watch", "Watch runs, live or over."),
    CommandRecord("report", "axlearn_core.cli.report:report", "Write runs as a page with curves."),
    CommandRecord("drill", "axlearn_core.cli.drill:drill", "Strike runs with faults, and compare."),
    CommandRecord("eval", "axlearn_core.cli.saved:evaluate", "Evaluate a checkpoint."),
    CommandRecord("replay", "axlearn_core.cli.replay:replay", "Look into one step of a run."),
    CommandRecord("config", "axlearn_core.cli.config:config", "Show and compare configs."),
    CommandRecord(
        "kernels", "axlearn_core.cli.kernels:kernels", "Show which kernels compute, and why."
    ),
    CommandRecord("experiments", "axlearn_core.cli.catalogs:experiments", "List experiments."),
    CommandRecord(
        "checkpoints", "axlearn_core.cli.checkpoints:checkpoints_group", "Inspect checkpoints."
    ),
    CommandRecord("doctor", "axlearn_core.cli.doctor:doctor", "Find and mend what is wrong."),
    CommandRecord("plugin", "axlearn_core.cli.plugin:plugin", "Start a plugin of your own."),
    CommandRecord("plugins", "axlearn_core.cli.plugins:plugins", "List plugins and problems."),
    CommandRecord("components", "axlearn_core.cli.plugins:components", "List what they provide."),
    CommandRecord("hooks", "axlearn_core.cli.hooks:hooks", "List hooks, or explain one."),
)

# Commands that core speaks of, and the packages that provide them.
PROVIDED: Final[Mapping[str, str]] = {
    "generate": "axlearn-inference",
    "serve": "axlearn-inference",
    "import": "axlearn-huggingface",
    "export": "axlearn-huggingface",
}


@dataclass
class Session:
    """What the options before and after the sub-command have in common."""

    verbose: bool = False


def _verbose_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.ensure_object(Session).verbose |= value

    return click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show the traceback of an error.",
    )


def _accept_verbose(command: click.Command) -> None:
    """Lets `-v` stand after the sub-command too, where people type it."""
    if not any("--verbose" in option.opts for option in command.params):
        command.params.append(_verbose_option())
    if isinstance(command, click.Group):
        for member in command.commands.values():
            _accept_verbose(member)


class LazyGroup(click.Group):
    """A group whose sub-commands are imported when they are called."""

    def __init__(self, *args: Any, own: Sequence[CommandRecord], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._own: Mapping[str, Registered] = {
            record.name: Registered(record, "axlearn-core", "") for record in own
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._own, *self._others()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # Core's own come first: they need no discovery, and nobody can take their names away.
        component = self._own.get(cmd_name)
        if component is None and get_registry().resolve(cmd_name):
            component = get_registry().get("command", cmd_name)
        if component is None:
            return None
        command = component.load()
        if not isinstance(command, click.Command):
            raise TargetError(
                f"command {component.qualified_name} must be a click command; "
                f"{component.record.target} is {command!r}"
            )
        _accept_verbose(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            if name in PROVIDED:
                ctx.fail(
                    f"the command {name!r} comes with a package that is not in use: "
                    f"pip install {PROVIDED[name]}"
                )
            near = near_names(name, self.list_commands(ctx))
            ctx.fail(f"there is no command {name!r}.{near} `axl --help` lists the commands.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands from their records; click itself would import each of them."""
        for title, commands in (("Commands", self._own), ("From plugins", self._others())):
            rows = [(name, component.record.summary) for name, component in commands.items()]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _others(self) -> dict[str, Registered]:
        registry = get_registry()
        return {
            component.qualified_name
            if component.name in self._own or registry.conflicts(component)
            else component.name: component
            for component in registry.records("command")
        }


@click.group(cls=LazyGroup, own=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="axlearn-core", prog_name="axl")
def axl() -> None:
    """Train large models from modular parts."""


_accept_verbose(axl)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `axl` and returns its exit code: 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    session = Session()
    sys.unraisablehook = _without_late_writes
    try:
        code = axl.main(arguments, prog_name="axl", standalone_mode=False, obj=session)
        return code if isinstance(code, int) else 0
    except (UserError, OSError) as error:  # OSError: a full disk, a folder that vanished
        if session.verbose:
            traceback.print_exception(error)
        click.echo(f"axl: error: {error}", err=True)
        return 1
    except click.exceptions.NoArgsIsHelpError as help_instead:
        help_instead.show()
        return help_instead.exit_code
    except click.ClickException as error:
        click.echo(f"axl: error: {error.format_message()}", err=True)
        return error.exit_code
    except click.Abort as abort:  # its cause is the KeyboardInterrupt, which may say of what
        click.echo(f"axl: interrupted {abort.__cause__ or ''}".rstrip(), err=True)
        return 130


def _without_late_writes(event: sys.UnraisableHookArgs) -> None:
    """Passes over what tensorstore's threads say of writes that a full disk broke off.

    The save that failed has been reported, and the loop that waited for the others is gone.
    """
    late = isinstance(event.exc_value, RuntimeError) and "loop is closed" in str(event.exc_value)
    if not late:
        sys.__unraisablehook__(event)


if __name__ == "__main__":
    sys.exit(main())
