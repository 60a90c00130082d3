"""The directories of runs as arguments of a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from axlearn_core.errors import UserError
from axlearn_core.observe.history import Run, is_run

runs_argument = click.argument(
    "directories", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path)
)


def check_runs(directories: Sequence[Path]) -> list[Path]:
    """Returns the directories.

    Raises:
        UserError: if one is not that of a run; it says what to do.
    """
    for directory in directories:
        if not directory.is_dir():
            raise UserError(
                f"there is no directory {directory}; give that of a run, which "
                f"`axl train EXPERIMENT --dir {directory}` would begin"
            )
        if not is_run(directory):
            inside = sorted(path for path in directory.iterdir() if path.is_dir() and is_run(path))
            runs = " ".join(map(str, inside[:8]))
            there = f"Runs are in: {runs}" if runs else "Give that of `axl train --dir`"
            raise UserError(
                f"{directory} holds no run (no run.json, metrics.jsonl or events.jsonl). {there}"
            )
    return list(dict.fromkeys(directories))  # one that is given twice is one run


def labels(runs: Sequence[Run]) -> list[str]:
    """Returns names that tell runs apart: their folders', or the paths of those that are alike."""
    names = [run.directory.resolve().name for run in runs]
    return [
        name if names.count(name) == 1 else str(run.directory)
        for name, run in zip(names, runs, strict=True)
    ]
