"""What a distribution declares: the core it needs, its entry points, its names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from importlib.metadata import (
    Distribution,
    EntryPoint,
    PackageNotFoundError,
    distribution,
    entry_points,
)
from typing import Final

from packaging.utils import canonicalize_name

from axlearn_core.cli.templates.rendering import core_range
from axlearn_core.plugins.checks import CORE, Refused, core_requirements
from axlearn_core.plugins.manager import ENTRY_POINT_GROUP, installed
from axlearn_core.testing.doctor.finding import Finding

_ALIKE: Final = 0.8  # of the letters; "jax_plugins" is at 0.6 and means something else
_LOWER: Final = (">", ">=", "==", "===", "~=")
_UPPER: Final = ("<", "<=", "==", "===", "~=")


def core_findings(name: str, requires: Sequence[str]) -> Iterator[Finding]:
    """Whether a distribution says between which versions of core it works.

    That the installed one is among them is seen when the plugin is loaded.
    """
    if name == CORE:
        return
    fix = f'write "{CORE}{core_range()}" under dependencies in pyproject.toml, and install again'
    try:
        needed = core_requirements(requires)
    except Refused:  # which is what loading it says
        return
    if not needed:
        what = f"it does not say which {CORE} it needs, so pip installs it beside any"
        yield Finding("error", what, fix)
        return
    operators = {clause.operator for requirement in needed for clause in requirement.specifier}
    bounds = (("lower", _LOWER), ("upper", _UPPER))
    if missing := [f"no {end} bound" for end, these in bounds if not operators.intersection(these)]:
        written = ", ".join(f"{CORE}{requirement.specifier}" for requirement in needed)
        yield Finding("warning", f"its requirement {written} has {' and '.join(missing)}", fix)


def name_findings(name: str, entries: Sequence[EntryPoint]) -> Iterator[Finding]:
    """Whether distribution, entry point and package are called alike."""
    package = name.replace("-", "_")
    for entry in entries:
        if len(entries) == 1 and canonicalize_name(entry.name) != name:
            what = f"its entry point is called {entry.name!r}, unlike the distribution"
            fix = f'write {name} = "{entry.value}" in pyproject.toml, and install again'
            yield Finding("warning", what, fix)
        top = entry.value.partition(":")[0].partition(".")[0]
        if top != package:
            what = f"its package {top} is called unlike the distribution, so others may bring it"
            fix = f"call the package {package}, or the distribution {top.replace('_', '-')}"
            yield Finding("warning", what, fix)


def group_findings(found: Distribution) -> Iterator[Finding]:
    """That a distribution has no entry point that `axl` reads, and which it has instead."""
    groups = sorted({entry.group for entry in found.entry_points})
    near = [group for group in groups if _misspelt(group)]
    if near:
        what = f"its entry point is in the group {near[0]!r}, which axl does not read"
    else:
        listing = ", ".join(groups) or "none at all"
        what = f"it has no entry point in the group {ENTRY_POINT_GROUP!r} (its groups: {listing})"
    fix = f'write [project.entry-points."{ENTRY_POINT_GROUP}"] in pyproject.toml, and install again'
    yield Finding("error", what, fix)


def misspelt() -> set[str]:
    """Returns the installed distributions whose entry points are in a group much like ours."""
    groups = filter(_misspelt, entry_points().groups)
    return {plugin.distribution for group in groups for plugin, _ in installed(group)}


def find_distribution(name: str) -> Distribution | None:
    """Returns an installed distribution, plugin or not."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _misspelt(group: str) -> bool:
    alike = SequenceMatcher(None, group.lower(), ENTRY_POINT_GROUP).ratio()
    return group != ENTRY_POINT_GROUP and alike > _ALIKE
