"""Imports a plugin's module, and not the package around it."""

from __future__ import annotations

import functools
import re
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Final

from axlearn_core.plugins.checks import Refused

_VALUE: Final = re.compile(r"[\w.]+\s*(:\s*[\w.]+\s*)?(\[.*\])?")  # module, attribute, extras


def read(entry: EntryPoint) -> object:
    """Returns the object of an entry point.

    A plain import would run the package's `__init__` first, which may well import all its layers
    and thereby jax. Plugins are read before jax starts, so only the named module is executed.

    Raises:
        Refused: if the entry point names no module, or one that is not there.
        BaseException: whatever the module raises.
    """
    if not _VALUE.fullmatch(entry.value):
        raise Refused(
            f"its entry point must be a module such as 'acme_norms._plugin', got {entry.value!r}",
            "correct it in pyproject.toml, and install the plugin again",
        )
    module = sys.modules.get(entry.module) or _execute(_find(entry.module))
    return functools.reduce(getattr, filter(None, (entry.attr or "").split(".")), module)


def _find(name: str) -> ModuleSpec:
    top, *rest = name.split(".")
    spec = find_spec(top)
    for part in rest:
        if spec is not None:
            locations = spec.submodule_search_locations or []
            spec = PathFinder.find_spec(f"{spec.name}.{part}", locations)
    if spec is None or spec.loader is None:
        raise Refused(
            f"its entry point names {name}, and there is no such module",
            "correct it in pyproject.toml if need be, and install the plugin again (also an "
            "editable one, which keeps the entry points of the day it was made)",
        )
    return spec


def _execute(spec: ModuleSpec) -> ModuleType:
    assert spec.loader is not None, "_find returns specs with loaders"
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # as import does, so that both give the same module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module
