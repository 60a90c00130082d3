"""What a launcher promises: it starts the same command once in each process of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from axlearn_core.config import Configurable
from axlearn_core.errors import UserError


class LaunchError(UserError):
    """A run could not be started, or has ended badly."""


@dataclass(frozen=True)
class Job:
    """A run to be started.

    Attributes:
        experiment: its name.
        overrides: `path=value` words.
        directory: of the run, on a file system that all processes share.
    """

    experiment: str
    overrides: tuple[str, ...]
    directory: Path

    @property
    def words(self) -> tuple[str, ...]:
        """What every process gives to `axl`."""
        return ("train", self.experiment, *self.overrides, "--dir", str(self.directory))

    @property
    def name(self) -> str:
        """A name as queues and clusters take it: lower-case letters, digits and dashes."""
        return re.sub(r"[^a-z0-9]+", "-", self.experiment.lower()).strip("-")[:40] or "axl"


class Launcher(Configurable):
    """Starts a job on an engine that exists.

    `axl launch NAME EXPERIMENT` has an option for each field of the launcher's config that holds
    text, a number, a truth value or a list of texts: `gpus_per_node` is `--gpus-per-node`. What the
    `Attributes:` of the config's docstring say of a field is the option's help.

    How the processes find each other is left to jax where it knows the engine. Elsewhere the
    launcher sets AXLEARN_COORDINATOR, AXLEARN_PROCESS_COUNT and AXLEARN_PROCESS_INDEX.
    """

    class Config(Configurable.Config):
        """A launcher's options."""

    def text(self, job: Job) -> str:
        """Returns what would be submitted or run, for `--dry-run`, and touches nothing.

        The words of the job stand in it so that the engine's shell or parser gives them back.
        """
        raise NotImplementedError(type(self))

    def launch(self, job: Job) -> int:
        """Submits or runs the job and returns an exit code.

        Raises:
            LaunchError: if the engine is not here or refuses; the message says what to do.
        """
        raise NotImplementedError(type(self))
