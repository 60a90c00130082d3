"""`axl export`: weights for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from axlearn_core.checkpoint import choose
from axlearn_core.cli.experiment import run_argument, step_option
from axlearn_core.cli.machine import start
from axlearn_core.plugins import get_registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from axlearn_huggingface.exporting import Published

F = TypeVar("F", bound="Callable[..., Any]")


@click.group("export")
def export_group() -> None:
    """Write a checkpoint's weights for other programs, by their names.

    DIR is a run's directory. Nothing that is there is overwritten.
    """


def _options(command: F) -> F:
    for option in (
        click.option("--family", help="The model_type, where several fit.  [default: the first]"),
        click.option("--max-length", type=click.IntRange(min=1), help="Tokens it is good for."),
        step_option,
        click.argument("target", type=click.Path(path_type=Path)),
        run_argument,
    ):
        command = option(command)
    return command


_dtype = click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of the tensors.  [default: as they are]",
)
_shard_size = click.option(
    "--shard-size", type=click.FloatRange(min=0), default=2.0, show_default=True, help="GiB a file."
)


@export_group.command("hf")
@_options
@_dtype
@_shard_size
def hugging_face(directory: Path, target: Path, shard_size: float, **options: Any) -> None:
    """Write a checkpoint of DIR to TARGET, a folder that `transformers` loads."""
    given = _published(directory, **options)
    _write(given, target, shard_size, "pt")


@export_group.command("mlx")
@_options
@_dtype
@_shard_size
def mlx(directory: Path, target: Path, shard_size: float, **options: Any) -> None:
    """Write a checkpoint of DIR to TARGET, a folder that `mlx-lm` loads."""
    given = _published(directory, **options)
    from axlearn_huggingface.mlx import for_mlx

    _write(for_mlx(given), target, shard_size, "mlx")


@export_group.command("gguf")
@_options
@click.option(
    "--type",
    "kind",
    type=click.Choice(["f32", "f16", "bf16", "q8_0"]),
    help="Of matrices.  [default: as they are]",
)
def gguf(directory: Path, target: Path, kind: str | None, **options: Any) -> None:
    """Write a checkpoint of DIR to TARGET, a .gguf file for llama.cpp and its kin."""
    given = _published(directory, **options)
    from axlearn_huggingface.gguf_export import export_gguf

    for note in export_gguf(given, target, kind=kind):
        click.echo(note, err=True)
    click.echo(f"{target}: {target.stat().st_size} bytes")


def _published(directory: Path, step: int | None, **options: Any) -> Published:
    checkpoint, damaged = choose(directory, step)
    assert checkpoint is not None  # choose raises
    for bad in damaged:
        click.echo(f"the checkpoint of step {bad.step} is damaged: {bad.problem}", err=True)
    start(get_registry())
    from axlearn_huggingface.exporting import published

    given = published(checkpoint, **options)
    click.echo(f"step {checkpoint.step} of {directory} is {given.model_type}", err=True)
    return given


def _write(given: Published, target: Path, shard_size: float, made_for: str) -> None:
    from axlearn_huggingface.exporting import export_folder

    for note in given.notes:
        click.echo(note, err=True)
    count = export_folder(given, target, shard_bytes=int(shard_size * 2**30), made_for=made_for)
    click.echo(f"{target}: {count} tensors")
