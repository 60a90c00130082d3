"""`axl doctor`: checks what training needs, and says how to mend what is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import click

from axlearn_core.cli.experiment import as_json_option, print_json
from axlearn_core.hardware import HardwareError, apply_environment, detect, jax_mismatch
from axlearn_core.observe.progress import size
from axlearn_core.plugins import Registry, discover

_PACKAGES = ("jax", "jaxlib", "orbax-checkpoint", "tensorstore", "numpy")
_LITTLE_SPACE = 1 << 30  # bytes; a checkpoint of a small model and its predecessor
_TEST_BYTES = 1 << 20
_COMPILE_CACHE = "~/.cache/axlearn/compiled"  # the default of Trainer.Config.compile_cache


class Finding(NamedTuple):
    """One thing that was looked at; `fix` says what to do if it is not `ok`."""

    name: str
    ok: bool
    what: str
    fix: str = ""


@click.command()
@as_json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check versions, plugins, devices and the disk; exit with 1 if something is wrong."""
    registry = Registry(discover())  # get_registry() would log the problems besides
    findings = [*versions(), *plugins(registry), *devices(registry), *disk(Path.cwd()), *cache()]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            mark = "ok  " if finding.ok else "BAD "
            click.echo(f"{mark} {finding.name:<14} {finding.what}")
            if finding.fix:
                click.echo(f"     {'':<14} fix: {finding.fix}")
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)


def versions() -> Iterator[Finding]:
    """Whether what core needs is installed."""
    yield Finding("python", True, f"{platform.python_version()} on {platform.platform()}")
    for package in _PACKAGES:
        try:
            yield Finding(package, True, version(package))
        except PackageNotFoundError:
            yield Finding(package, False, "not installed", f"pip install {package}")
    if problem := jax_mismatch():
        what, _, fix = problem.partition(". To mend it: ")
        yield Finding("jax and jaxlib", False, what, fix)


def plugins(registry: Registry) -> Iterator[Finding]:
    """Whether every installed plugin is in use."""
    for plugin in registry.plugins:
        if plugin.problem:
            yield Finding(plugin.distribution, False, plugin.problem.what, plugin.problem.fix)
        else:
            components = f"{len(plugin.components)} components"
            what = components if plugin.status == "ok" else plugin.status
            yield Finding(plugin.distribution, True, f"{plugin.version}, {what}")


def devices(registry: Registry) -> Iterator[Finding]:
    """Which hardware is here, and whether jax sees it."""
    try:
        hardware, probe, notes = detect(registry, os.environ)
    except HardwareError as error:
        yield Finding("hardware", False, str(error), "choose a platform that is here")
        return
    yield Finding("hardware", True, probe.description)
    for note in notes:
        what, _, fix = note.replace(". To mend it: ", ". To use it: ").partition(". To use it: ")
        yield Finding("hardware", False, what, fix or "see above")
    apply_environment(hardware, os.environ)
    try:
        import jax

        found = jax.devices()
    except (ImportError, RuntimeError) as error:
        fix = "pip install --upgrade jax, or set JAX_PLATFORMS=cpu to go without the accelerator"
        yield Finding("devices", False, f"jax sees none: {error}", fix)
        return
    yield Finding(
        "devices",
        found[0].platform == probe.platform,
        f"{len(found)} x {found[0].device_kind} ({found[0].platform})",
        "" if found[0].platform == probe.platform else f"jax does not use the {probe.platform}",
    )


def disk(folder: Path) -> Iterator[Finding]:
    """Whether runs can be written below a folder."""
    if problem := _cannot_write(folder):
        fix = "go to a folder of your own, or give axl train another --dir"
        yield Finding("disk", False, problem, fix)
        return
    free = shutil.disk_usage(folder).free
    enough = free >= _LITTLE_SPACE
    fix = "" if enough else "make room, or give axl train a --dir on another disk"
    yield Finding("disk", enough, f"{size(free)} free in {folder}", fix)


def cache() -> Iterator[Finding]:
    """Whether compiled programs can be kept for the next run."""
    folder = Path(_COMPILE_CACHE).expanduser()
    problem = _cannot_write(folder)
    fix = "make it writable, or train with compile_cache=null" if problem else ""
    yield Finding("compile cache", problem is None, problem or str(folder), fix)


def _cannot_write(folder: Path) -> str | None:
    """Tries it; permissions alone do not tell (full disks, read-only mounts, quotas)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_TEST_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"cannot write to {folder}: {error.strerror}"
    return None
