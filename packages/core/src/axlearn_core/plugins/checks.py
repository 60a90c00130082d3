"""What keeps a plugin from being used. Each check passes silently, or refuses with a way out."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from axlearn_core.config import near_names
from axlearn_core.plugins.hookspecs import specifications
from axlearn_core.plugins.records import RECORD_OF_HOOK, Record

CORE: Final = "axlearn-core"


class Refused(Exception):
    """A plugin cannot be used."""

    def __init__(self, what: str, fix: str):
        super().__init__(what)
        self.what, self.fix = what, fix


def check_core_range(requires: Iterable[str]) -> None:
    """Refuses a plugin that was made for another core; it is not imported then."""
    for requirement in core_requirements(requires):
        core = version(CORE)
        if not requirement.specifier.contains(core, prereleases=True):
            raise Refused(
                f"it needs {CORE} {requirement.specifier}, and {core} is installed",
                f"pip install '{CORE}{requirement.specifier}', or another version of this plugin",
            )


def core_requirements(requires: Iterable[str]) -> list[Requirement]:
    """Returns those of a distribution's requirements that are about core and apply here.

    Raises:
        Refused: if one cannot be read, about core or not.
    """
    found = []
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            fix = "write it as in `name>=1,<2` and build the plugin again"
            raise Refused(f"its requirement {text!r} cannot be read", fix) from error
        if canonicalize_name(requirement.name) != CORE:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.append(requirement)
    return found


def check_hooks(manager: pluggy.PluginManager, implementation: object) -> None:
    """Refuses what pluggy would overlook: a hook nobody calls is a mistake, not an option."""
    known = specifications()
    for attribute, function in inspect.getmembers_static(implementation, inspect.isroutine):
        marked = manager.parse_hookimpl_opts(implementation, attribute)
        if marked is None:
            if attribute.startswith("axlearn_") and _is_own(function, implementation):
                raise Refused(
                    f"{attribute} looks like a hook but is not marked as one",
                    "put @hookimpl above it, or give it a name without the prefix axlearn_",
                )
            continue
        hook = marked["specname"] or attribute
        if hook not in known:
            raise Refused(
                f"there is no hook {hook}.{near_names(hook, known)}",
                "use one of: " + ", ".join(known),
            )
        if marked["wrapper"] or marked["hookwrapper"]:
            raise Refused(
                f"{hook} is a hook wrapper, which would reach into other plugins",
                "write it as a plain hook",
            )


def _is_own(function: Any, implementation: object) -> bool:
    return not inspect.ismodule(implementation) or function.__module__ == implementation.__name__


def checked_records(hook: str, result: object) -> list[Record]:
    """Returns what a hook returned if it is a list of the hook's records."""
    expected = RECORD_OF_HOOK[hook]
    records: list[Any] = list(result) if isinstance(result, (list, tuple)) else [result]
    for record in records:
        if type(record) is not expected:
            raise Refused(
                f"{hook} must return a list of {expected.__name__}; got {record!r}",
                f"return [{expected.__name__}(...), ...]",
            )
    return records
