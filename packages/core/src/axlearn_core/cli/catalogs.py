"""`axl experiments` and `axl checkpoints`: what there is to train, and what was kept of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from axlearn_core.checkpoint import CheckpointInfo, checkpoints, choose
from axlearn_core.cli.experiment import as_json_option, print_json, run_argument, step_option
from axlearn_core.cli.text import table
from axlearn_core.errors import UserError
from axlearn_core.observe.progress import size
from axlearn_core.plugins import get_registry


@click.command()
@as_json_option
def experiments(as_json: bool) -> None:
    """List the experiments that plugins provide."""
    registry = get_registry()
    found = sorted(registry.records("experiment"), key=lambda component: component.name)
    names = [c.qualified_name if registry.conflicts(c) else c.name for c in found]
    if as_json:
        print_json(
            [
                {"name": name, "plugin": c.distribution, "summary": c.record.summary}
                for name, c in zip(names, found, strict=True)
            ]
        )
        return
    rows = [(name, c.record.summary) for name, c in zip(names, found, strict=True)]
    click.echo(table(("experiment", "summary"), rows))
    if not rows:
        click.echo("none is installed: pip install axlearn-experiments, or write module:function")


@click.group("checkpoints")
def checkpoints_group() -> None:
    """List and describe the checkpoints of a run."""


@checkpoints_group.command("ls")
@run_argument
@click.option("--verify", is_flag=True, help="Read every byte and compare checksums.")
@as_json_option
def list_checkpoints(directory: Path, verify: bool, as_json: bool) -> None:
    """List the checkpoints in DIR."""
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}; give that of a run (axl train --dir)")
    found = checkpoints(directory, verify=verify)
    if as_json:
        print_json([_describe(info) for info in found])
        return
    rows = [
        (str(info.step), info.status, size(info.bytes), _saved_at(info), info.problem)
        for info in found
    ]
    click.echo(table(("step", "status", "size", "saved", ""), rows))


@checkpoints_group.command("show")
@run_argument
@step_option
@as_json_option
def show_checkpoint(directory: Path, step: int | None, as_json: bool) -> None:
    """Show what the checkpoint of a step in DIR holds."""
    info, damaged = choose(directory, step)
    assert info is not None  # choose raises
    facts = json.loads((info.path / "run.json").read_text(encoding="utf-8"))
    if as_json:
        print_json({**_describe(info), **facts})
        return
    lines = [
        *(f"damaged     step {bad.step}: {bad.problem}" for bad in damaged),
        f"step        {info.step}, saved {_saved_at(info)}, {size(info.bytes)}, intact",
        f"path        {info.path}",
        f"config      {facts['config_hash']} ({info.path / 'config.txt'})",
        f"plugins     {', '.join(f'{name} {v}' for name, v in facts['plugins'].items())}",
        f"input       {json.dumps(facts['input'])}",
    ]
    for kind, values in facts["values"].items():
        shown = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
        lines.append(f"{kind:<11} {shown}")
    click.echo("\n".join(lines))


def _describe(info: CheckpointInfo) -> dict[str, Any]:
    return {
        "step": info.step,
        "status": info.status,
        "problem": info.problem or None,
        "bytes": info.bytes,
        "path": str(info.path),
    }


def _saved_at(info: CheckpointInfo) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(info.path.stat().st_mtime))
