"""`axl plugin new`: a distribution to start from, which passes its tests as it is written."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click

from axlearn_core.cli.templates import TEMPLATES, render
from axlearn_core.config import near_names
from axlearn_core.errors import UserError
from axlearn_core.plugins import KINDS

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")  # PEP 503, and a package can be called so


@click.group()
def plugin() -> None:
    """Start a plugin of your own."""


def _kind(ctx: click.Context, option: click.Parameter, value: str) -> str:
    if value not in TEMPLATES:
        what = "no template" if value in KINDS else "no kind"
        near, listing = near_names(value, TEMPLATES), ", ".join(TEMPLATES)
        raise click.BadParameter(f"there is {what} {value!r}.{near} Write one of {listing}.")
    return value


@plugin.command()
@click.argument("name")
@click.option(
    "--kind", default="layer", show_default=True, callback=_kind, help=", ".join(TEMPLATES)
)
def new(name: str, kind: str) -> None:
    """Write a plugin with one component of a kind, and its tests, into the new folder NAME."""
    if problem := _problem(name):
        raise UserError(f"{problem}. Write: axl plugin new {_suggestion(name)}")
    folder = Path(name)
    if folder.exists():
        raise UserError(f"there is already {folder}: take another name, or remove it first")
    project = render(kind, name)
    for path, text in project.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    steps = [f"cd {name}", "pip install -e '.[test]'", "pytest", project.use]
    click.echo("\n".join([f"{name}/", *_tree(sorted(project.files)), "", "next:"]))
    click.echo("\n".join(f"  {step}" for step in steps))


def _problem(name: str) -> str | None:
    """Returns why a plugin cannot be called so, or None if it can."""
    package = name.replace("-", "_")
    if _NAME.fullmatch(name) is None or keyword.iskeyword(package):
        return (
            "a plugin's name must be lower-case letters and digits with single dashes between "
            f"words, start with a letter and be no word of Python's, got {name!r}"
        )
    if find_spec(package) is not None:
        return f"Python already has a module {package}, which the plugin {name} would hide"
    return None


def _suggestion(name: str) -> str:
    """Returns the nearest name that is allowed."""
    near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return near if _problem(near) is None else f"acme-{near}".rstrip("-")


def _tree(paths: list[str], indent: str = "  ") -> Iterator[str]:
    """Yields a line for each file and folder, indented below its folder; files come first."""
    files = [path for path in paths if "/" not in path]
    yield from (f"{indent}{file}" for file in files)
    for top in dict.fromkeys(path.partition("/")[0] for path in paths if "/" in path):
        yield f"{indent}{top}/"
        below = [path.removeprefix(f"{top}/") for path in paths if path.startswith(f"{top}/")]
        yield from _tree(below, indent + "  ")
