"""What a plugin's records say, and whether what they point to is that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from axlearn_core.cli.main import COMMANDS
from axlearn_core.config import Configurable, near_names
from axlearn_core.plugins import (
    HardwareRecord,
    KernelRecord,
    MeshRuleRecord,
    Registered,
    Registry,
    TargetError,
)
from axlearn_core.testing.doctor.finding import Finding
from axlearn_core.testing.doctor.targets import Unlike, check_target, issubclass_of

SUMMARY_LENGTH: Final = 80
"""Characters; `axl components` prints a summary behind three other columns."""


def component_findings(registry: Registry, component: Registered) -> Iterator[Finding]:
    """Whether a component can be imported, is of its kind, and is named and described well."""
    yield from _target(component)
    yield from _summary(component)
    yield from _name(component)
    yield from _conflicts(registry, component)


def _target(component: Registered) -> Iterator[Finding]:
    label, where = _label(component), component.record.target
    try:
        target = component.load()
    except TargetError as error:
        cause = error.__cause__
        what = f"{label}: importing {where} failed: {type(cause).__name__}: {cause}"
        yield Finding("error", what, _repair(where, cause))
        return
    try:
        check_target(component, target)
    except Unlike as unlike:
        what = f"{label} must be {unlike.expected}; {where} {unlike.got}"
        yield Finding("error", what, "correct the record's target, or take the record of its kind")
    except (Exception, SystemExit) as error:
        what = f"{label}: calling {where} failed: {type(error).__name__}: {error}"
        yield Finding("error", what, "it is called without arguments, and must work then")
    else:
        yield from _home(component, target)


def _repair(where: str, cause: BaseException | None) -> str:
    """Returns what to do about a target that cannot be imported."""
    module, _, attribute = where.partition(":")
    missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
    if missing and f"{module}.".startswith(f"{missing}."):
        return f"correct the record's target, or add the module {missing}"
    if isinstance(cause, AttributeError) and module in sys.modules:
        near = near_names(attribute, dir(sys.modules[module]))
        return f"correct the record's target, or define {attribute} in {module}.{near}"
    return f"mend the module; for the traceback: python -c 'import {module}'"


def _home(component: Registered, target: Any) -> Iterator[Finding]:
    """That a class is registered where it is defined, without which no file can name it."""
    home = f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', '')}"
    if issubclass_of(target, Configurable) and home != component.record.target:
        what = (
            f"{_label(component)}: {component.record.target} is defined elsewhere, so that its "
            "configs cannot be saved"
        )
        yield Finding("error", what, f"write {home!r} as the record's target")


def _summary(component: Registered) -> Iterator[Finding]:
    summary = component.record.summary
    if len(summary) > SUMMARY_LENGTH:
        what = f"{_label(component)}: its summary has {len(summary)} characters"
        yield Finding("warning", what, f"take at most {SUMMARY_LENGTH}: it is a line of a table")
    if not summary.endswith("."):
        what = f"{_label(component)}: its summary {summary!r} does not end with a full stop"
        yield Finding("warning", what, "end it like all others")


def _name(component: Registered) -> Iterator[Finding]:
    record = component.record
    if isinstance(record, KernelRecord) and not record.name.startswith(f"{record.op}."):
        what = f"{_label(component)}: the name of a kernel begins with its op"
        yield Finding("warning", what, f"call it {record.op}.{record.name.rpartition('.')[2]}")
    if record.kind == "command" and record.name in [command.name for command in COMMANDS]:
        what = f"{_label(component)}: `axl {record.name}` is core's own command"
        yield Finding("warning", what, f"rename it; until then: axl {component.qualified_name}")


def _conflicts(registry: Registry, component: Registered) -> Iterator[Finding]:
    record = component.record
    if isinstance(record, MeshRuleRecord) and record.optional:
        return  # a recipe is looked for among those of one machine
    if others := registry.conflicts(component):
        listing = ", ".join(registry.unique_name(other) for other in others)
        what = f"{_label(component)} shares its name with {listing}, so the bare name is an error"
        fix = f"rename it, or always write {registry.unique_name(component)}"
        yield Finding("warning", what, fix)
    if isinstance(component.record, HardwareRecord):
        rivals = [
            other.qualified_name
            for other in registry.records("hardware")
            if other != component
            and isinstance(other.record, HardwareRecord)
            and other.record.platform == component.record.platform
        ]
        if rivals:
            what = f"{_label(component)}: {', '.join(rivals)} is of the same platform"
            yield Finding("warning", what, "uninstall one of the two: the first by name is used")


def _label(component: Registered) -> str:
    return f"{component.kind} {component.name}"
