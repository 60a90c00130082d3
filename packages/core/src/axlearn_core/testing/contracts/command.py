"""The contract of commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import click
from click.testing import CliRunner

from axlearn_core.plugins import Registered
from axlearn_core.testing.contracts.component import DistributionContract


class CommandContract(DistributionContract):
    """Every command of a distribution explains itself, and so do the commands within it."""

    kind: ClassVar[str] = "command"

    def test_it_has_help(self, component: Registered) -> None:
        for words, command in commands(component.load(), (component.name,)):
            assert command.help, f"axl {' '.join(words)} needs a docstring, which is its help"
            assert CliRunner().invoke(command, ["--help"]).exit_code == 0

    def test_an_unknown_option_is_refused(self, component: Registered) -> None:
        done = CliRunner().invoke(component.load(), ["--no-such-option"])
        assert done.exit_code == 2, "a usage error ends with exit code 2"


def commands(
    command: click.Command, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yields a command and those within it, each with the words that call it."""
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))
