"""`axl report`: runs as one HTML page."""

from __future__ import annotations

import time
from pathlib import Path

import click

from axlearn_core.cli.runs import check_runs, runs_argument
from axlearn_core.observe.history import RunReader


@click.command()
@runs_argument
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="Where to write it.",
)
def report(directories: tuple[Path, ...], save: Path) -> None:
    """Write the runs in each DIR as one page: curves, goodput, faults, checkpoints, config.

    The page loads nothing from elsewhere. Several runs are drawn side by side.
    """
    from axlearn_core.cli.report_page import page

    runs = [RunReader(directory).read() for directory in check_runs(directories)]
    save.write_text(page(runs, time.time()), encoding="utf-8")
    for run in runs:
        for remark in run.remarks:
            click.echo(f"{run.directory}: {remark}", err=True)
    click.echo(f"saved {save}")
