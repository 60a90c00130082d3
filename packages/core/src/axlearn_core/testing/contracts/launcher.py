"""The contract of launchers."""

from __future__ import annotations

from pathlib import Path

from axlearn_core.launch import Job, Launcher
from axlearn_core.plugins.reference import meanings
from axlearn_core.testing.contracts.config import ConfigContract

AWKWARD = """data.names=["it's", "$HOME `date`"]"""
JOB = Job("text.Some_Experiment", ("max_step=7", AWKWARD), Path("/shared/some run"))


class LauncherContract(ConfigContract):
    """What would be submitted can be shown, and says what runs, whatever characters that has."""

    def words(self, text: str) -> list[list[str]]:
        """Returns the words of each `axl` command in the text, as the engine reads them.

        A shell reads with `shlex.split`; a manifest has a list of them already.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must know what the engine would run: define words(self, text) "
            "and return the words of each command, as the engine's shell or parser gives them"
        )

    def text(self) -> str:
        launcher: Launcher = self.build(self.config())
        return launcher.text(JOB)

    def test_every_command_has_the_words_of_the_job(self) -> None:
        commands = self.words(self.text())
        assert commands
        for command in commands:
            assert command[-len(JOB.words) :] == list(JOB.words)

    def test_the_same_job_has_the_same_text(self) -> None:
        assert self.text() == self.text()

    def test_every_option_has_a_help(self) -> None:
        cfg = self.config()
        told = meanings(type(cfg))
        assert [name for name, _ in cfg.items() if name not in told] == []
