"""`axl checkpoints`: what was kept of a run, without a device and without jax."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from axlearn_core.checkpoint import (
    ArrayInfo,
    CheckpointInfo,
    checkpoints,
    choose,
    problems,
    read_manifest,
    remove,
)
from axlearn_core.checkpoint.comparison import compare
from axlearn_core.checkpoint.export import export_parameters
from axlearn_core.checkpoint.retention import saved_facts
from axlearn_core.checkpoint.store import Store, is_store
from axlearn_core.cli.experiment import as_json_option, print_json, run_argument, step_option
from axlearn_core.cli.text import counted, table
from axlearn_core.errors import UserError
from axlearn_core.observe.progress import duration, size

place_argument = click.argument("place", metavar="DIR_OR_URL")


@click.group("checkpoints")
def checkpoints_group() -> None:
    """List, verify, compare and export the checkpoints of a run.

    DIR is a run's directory; a URL, such as s3://bucket/prefix, what checkpoint.store was.
    """


@checkpoints_group.command("ls")
@place_argument
@click.option("--verify", is_flag=True, help="Read every byte and compare checksums.")
@as_json_option
def list_checkpoints(place: str, verify: bool, as_json: bool) -> None:
    """List the checkpoints in DIR or at a URL."""
    if is_store(place):
        click.echo(table(("step", "status", "size", "metrics"), list(_stored_rows(Store(place)))))
        return
    found = checkpoints(_directory(place), verify=verify)
    if as_json:
        print_json([_describe(info) for info in found])
        return
    rows = [
        (str(info.step), info.status, size(info.bytes), _age(info), _metrics(saved_facts(info)))
        for info in found
    ]
    click.echo(table(("step", "status", "size", "age", "metrics"), rows))
    for info in found:
        if info.problem:
            click.echo(f"step {info.step}: {info.problem}")


@checkpoints_group.command("show")
@run_argument
@step_option
@as_json_option
def show_checkpoint(directory: Path, step: int | None, as_json: bool) -> None:
    """Show what the checkpoint of a step in DIR holds."""
    info, damaged = choose(directory, step)
    assert info is not None  # choose raises
    facts = json.loads((info.path / "run.json").read_text(encoding="utf-8"))
    arrays = read_manifest(info.path).arrays
    if as_json:
        shown = {name: {"shape": a.shape, "dtype": a.dtype} for name, a in arrays.items()}
        print_json({**_describe(info), **facts, "arrays": shown})
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
        shown_values = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
        lines.append(f"{kind:<11} {shown_values}")
    click.echo("\n".join(lines))
    click.echo("\n" + table(("array", "shape", "dtype", "size", "files"), _array_rows(arrays)))


@checkpoints_group.command("verify")
@place_argument
@step_option
def verify_checkpoints(place: str, step: int | None) -> None:
    """Read every byte of the checkpoints in DIR or at a URL and compare checksums.

    Ends with exit code 1 if anything is wrong, and names each array, shard and file.
    """
    found = _found_problems(place)
    checked = {number: each for number, each in found.items() if step in (None, number)}
    if not checked:
        raise UserError(f"{place} holds no complete checkpoint{_of_step(step)}")
    bad = 0
    for number, wrong in checked.items():
        lines = list(wrong)
        bad += bool(lines)
        click.echo(f"step {number}: {'damaged' if lines else 'intact'}")
        for line in lines:
            click.echo(f"  {line}")
    if bad:
        raise UserError(f"{counted(bad, 'checkpoint')} of {len(checked)} in {place} damaged")


@checkpoints_group.command("diff")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@as_json_option
def diff_checkpoints(first: Path, second: Path, as_json: bool) -> None:
    """Compare two checkpoints: config, plugins, arrays.

    Each is the directory of a run, whose newest intact one is meant, or a checkpoint's own folder.
    """
    result = compare(_one(first), _one(second))
    if as_json:
        print_json(result._asdict())
        return
    for kind, lines in (("config", result.config), ("plugins", result.plugins)):
        for line in lines:
            click.echo(f"{kind:<8} {line}")
    rows = list(result.arrays.items())
    if rows:
        click.echo(table(("array", "difference"), rows))
    click.echo(f"{result.equal} arrays are equal, {len(result.arrays)} differ")


@checkpoints_group.command("export")
@run_argument
@click.argument("target", type=click.Path(path_type=Path))
@step_option
def export_checkpoint(directory: Path, target: Path, step: int | None) -> None:
    """Write the parameters of a checkpoint in DIR to TARGET, a .safetensors file.

    They have our names. Published formats are in axlearn-huggingface: `axl export`.
    """
    info, _ = choose(directory, step)
    assert info is not None  # choose raises
    count, written = export_parameters(info.path, target)
    click.echo(f"{target}: {counted(count, 'array')} of step {info.step}, {size(written)}")


@checkpoints_group.command("rm")
@place_argument
@click.argument("steps", metavar="STEP...", nargs=-1, type=int, required=True)
@click.option("--force", is_flag=True, help="Also the newest complete one.")
def remove_checkpoints(place: str, steps: tuple[int, ...], force: bool) -> None:
    """Delete checkpoints of some steps, in DIR or at a URL."""
    store = Store(place) if is_store(place) else None
    found = [] if store else checkpoints(_directory(place))
    here = {info.step: info for info in found if info.status == "complete"}
    complete = store.steps() if store else list(here)
    for step in steps:
        if step not in complete:
            raise UserError(f"{place} holds no complete checkpoint of step {step}; {complete=}")
        if step == complete[-1] and not force:
            raise UserError(
                f"step {step} is the newest complete checkpoint in {place}, from which a run goes "
                "on; --force deletes it nevertheless"
            )
    for step in dict.fromkeys(steps):
        store.remove(step) if store else remove(here[step])
        click.echo(f"deleted step {step}")


def _directory(place: str) -> Path:
    directory = Path(place)
    if not directory.is_dir():
        raise UserError(f"there is no directory {place}; give that of a run (axl train --dir)")
    return directory


def _one(place: Path) -> Path:
    if (place / "manifest.json").is_file():
        if problem := next(problems(place), None):
            raise UserError(f"{place} is damaged: {problem}")
        return place
    info, _ = choose(place, None)
    assert info is not None  # choose raises
    return info.path


def _found_problems(place: str) -> dict[int, Iterator[str]]:
    if is_store(place):
        store = Store(place)
        return {step: store.problems(step) for step in store.steps()}
    found = checkpoints(_directory(place))
    return {info.step: problems(info.path) for info in found if info.status == "complete"}


def _stored_rows(store: Store) -> Iterator[tuple[str, ...]]:
    for step in store.steps():
        total = sum(fact.bytes for fact in store.manifest(step).files.values())
        yield str(step), "complete", size(total), _metrics(store.facts(step))


def _array_rows(arrays: Mapping[str, ArrayInfo]) -> list[tuple[str, ...]]:
    return [
        (name, str(list(each.shape)), each.dtype, size(each.bytes), str(len(each.shards)))
        for name, each in arrays.items()
    ]


def _metrics(facts: Mapping[str, Any]) -> str:
    values: Mapping[str, Mapping[str, float]] = facts.get("values", {})
    return ", ".join(
        f"{kind} {each['loss']:.4f}" for kind, each in values.items() if "loss" in each
    )


def _describe(info: CheckpointInfo) -> dict[str, Any]:
    return {
        "step": info.step,
        "status": info.status,
        "problem": info.problem or None,
        "bytes": info.bytes,
        "path": str(info.path),
        "values": saved_facts(info).get("values", {}),
    }


def _of_step(step: int | None) -> str:
    return "" if step is None else f" of step {step}"


def _age(info: CheckpointInfo) -> str:
    return duration(time.time() - info.path.stat().st_mtime)


def _saved_at(info: CheckpointInfo) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(info.path.stat().st_mtime))
