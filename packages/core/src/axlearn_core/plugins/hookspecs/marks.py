"""The marks of specifications and implementations, and what a hook says when its time is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import pluggy

PROJECT: Final = "axlearn_core"
F = TypeVar("F", bound=Callable[..., Any])

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookDeprecation(DeprecationWarning):
    """A plugin implements a hook that will not be called for ever.

    Attributes:
        what: all but what to do, as a sentence.
        hook: its name.
        since: the version of axlearn-core that deprecated it.
        removed_in: the first version without it.
        instead: what to do, as an instruction: "implement axlearn_step_completed".
    """

    def __init__(self, hook: str, *, since: str, removed_in: str, instead: str):
        self.what = f"{hook} is deprecated since axlearn-core {since}, and gone in {removed_in}"
        super().__init__(f"{self.what}: {instead}")
        self.hook, self.since, self.removed_in, self.instead = hook, since, removed_in, instead


def deprecated_hookspec(*, since: str, removed_in: str, instead: str) -> Callable[[F], F]:
    """Marks the specification of a hook that is still called, in place of `@hookspec`.

    pluggy warns whoever implements it, and `axl plugins` names them. See `HookDeprecation`.
    """

    def mark(specification: F) -> F:
        warning = HookDeprecation(
            specification.__name__, since=since, removed_in=removed_in, instead=instead
        )
        return hookspec(warn_on_impl=warning)(specification)

    return mark


def deprecation_of(specification: Callable[..., Any]) -> HookDeprecation | None:
    """Returns the deprecation that a specification is marked with."""
    warning = getattr(specification, f"{PROJECT}_spec").get("warn_on_impl")
    return warning if isinstance(warning, HookDeprecation) else None
