"""`axl import`: published weights in."""

from __future__ import annotations

from pathlib import Path

import click

from axlearn_core.cli.experiment import overrides_argument
from axlearn_core.cli.machine import start
from axlearn_core.plugins import get_registry


@click.group("import")
def import_group() -> None:
    """Make a run's directory of published weights."""


@import_group.command("hf")
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@overrides_argument
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of the parameters.  [default: as they are]",
)
@click.option("--ignore", multiple=True, metavar="FIELD", help="Pass over a field of config.json.")
def hugging_face(
    path: Path,
    directory: Path,
    overrides: tuple[str, ...],
    dtype: str | None,
    ignore: tuple[str, ...],
) -> None:
    """Import the Hugging Face folder PATH into DIR, a new directory.

    It becomes that of a run at step 0, for `axl generate` and `axl eval`, and for others to begin
    with: initialize_from.checkpoint=DIR. Each PATH=VALUE changes the config that is saved, such as
    mesh_shape='{"fsdp": 8}', which says how arrays are cut into files.
    """
    start(get_registry())
    from axlearn_huggingface.importing import import_folder

    made = import_folder(path, directory, dtype=dtype, ignore=ignore, overrides=overrides)
    click.echo(f"imported {path} ({made.model_type}, {made.dtype}) into {directory}")
    if not made.tokenizer:
        click.echo("it has no tokenizer: give token ids instead of text")
    click.echo(f"next: axl generate {directory}")
