"""`axl watch`: a live view of runs, from what they write into their directories."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from axlearn_core.cli.runs import check_runs, runs_argument
from axlearn_core.observe.history import Run, RunReader

_EVERY = 1.0  # seconds between two pictures


@click.command()
@runs_argument
@click.option("--once", is_flag=True, help="Print one picture and leave, as in a pipe.")
def watch(directories: tuple[Path, ...], once: bool) -> None:
    """Watch the runs in each DIR: loss, speed, goodput, evaluations, events.

    Reads files only, so it works from any host that sees them, and for a run that is over. Leaves
    when all runs are over, or at Ctrl-C; the runs go on.
    """
    from rich.console import Console, RenderableType
    from rich.live import Live

    from axlearn_core.cli.watch_view import frame
    from axlearn_core.observe.sessions import is_over

    readers = [RunReader(directory) for directory in check_runs(directories)]

    def read() -> list[Run]:
        return [reader.read() for reader in readers]

    if "utf" not in (sys.stdout.encoding or "").lower():
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    console = Console(highlight=False)

    def picture(runs: Sequence[Run]) -> RenderableType:
        return frame(runs, console.width, console.height - 1, time.time())

    runs = read()
    if console.is_terminal and not once:
        with (
            contextlib.suppress(KeyboardInterrupt),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while not all(is_over(run, time.time()) for run in runs):
                live.update(picture(runs), refresh=True)
                time.sleep(_EVERY)
                runs = read()
    console.print(picture(runs))
