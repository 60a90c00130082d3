"""All specifications, by what they are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from axlearn_core.plugins.hookspecs import changing, observing, providing
from axlearn_core.plugins.hookspecs.marks import PROJECT

ROLES: Final[Mapping[str, ModuleType]] = {
    "provide": providing,
    "observe": observing,
    "change": changing,
}


def specifications(role: str | None = None) -> dict[str, Callable[..., Any]]:
    """Returns the hooks of a role, or of all, in the order of their files."""
    modules = [ROLES[role]] if role else ROLES.values()
    return {
        name: hook
        for module in modules
        for name, hook in vars(module).items()
        if hasattr(hook, f"{PROJECT}_spec")
    }
