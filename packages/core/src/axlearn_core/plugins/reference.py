"""What the specifications say about each hook, as data: `axl hooks NAME` and the docs print it.

A docstring here is a summary, facts (`When: ...`, each with its continuation indented) and an
example. A fact that a hook does not give is that of its role, in the docstring of the role's file.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, Final, NamedTuple, get_type_hints

from axlearn_core.plugins.hookspecs import ROLES, HookDeprecation, deprecation_of, specifications
from axlearn_core.plugins.records import RECORD_OF_HOOK

FACTS: Final = ("When", "How often", "Process", "On an exception")  # what every hook answers
_FACT = re.compile(r"^([A-Z][a-z ]+): (.+(?:\n +.+)*)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {5,}.+)*)", re.MULTILINE)


class Text(NamedTuple):
    """A docstring in its parts."""

    summary: str
    facts: dict[str, str]
    example: str


class Field(NamedTuple):
    """A field of what a hook returns or is given."""

    name: str
    type: str
    meaning: str


@dataclasses.dataclass(frozen=True)
class HookReference:
    """What there is to know about a hook.

    Attributes:
        facts: by label, those of `FACTS` first; the role's where the hook has none of its own.
        record: the class that the hook returns a list of, or the event it is given.
    """

    name: str
    role: str
    signature: str
    summary: str
    facts: dict[str, str]
    record: type | None
    example: str
    deprecation: HookDeprecation | None

    @property
    def headline(self) -> str:
        """The summary, or what to use instead of a deprecated hook."""
        return f"Deprecated: {self.deprecation.instead}." if self.deprecation else self.summary

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of `record`."""
        return described_fields(self.record) if self.record else ()


def hook_references() -> dict[str, HookReference]:
    """Returns the reference of every hook by name, in the order of the specifications."""
    return {
        name: _reference(name, role, specification)
        for role in ROLES
        for name, specification in specifications(role).items()
    }


def role_text(role: str) -> Text:
    """Returns what holds for all hooks of a role."""
    return _read(ROLES[role])


def described_fields(record: type) -> tuple[Field, ...]:
    """Returns a dataclass's fields with what the docstrings of its classes say of each."""
    told = meanings(record)
    return tuple(
        Field(field.name, str(field.type), told.get(field.name, ""))
        for field in dataclasses.fields(record)
    )


def meanings(cls: type) -> dict[str, str]:
    """Returns what the docstrings of a class and its bases say of each of their `Attributes:`."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        _, _, attributes = (inspect.cleandoc(each.__doc__ or "")).partition("\nAttributes:\n")
        found |= {name: _joined(text) for name, text in _ATTRIBUTE.findall(attributes)}
    return found


def _reference(name: str, role: str, specification: Callable[..., Any]) -> HookReference:
    text = _read(specification)
    facts = role_text(role).facts | text.facts
    return HookReference(
        name=name,
        role=role,
        signature=f"{name}{inspect.signature(specification)}".replace("'", ""),
        summary=text.summary,
        facts={label: facts[label] for label in dict.fromkeys([*FACTS, *facts]) if label in facts},
        record=RECORD_OF_HOOK.get(name) or get_type_hints(specification).get("event"),
        example=text.example,
        deprecation=deprecation_of(specification),
    )


def _read(documented: object) -> Text:
    summary, _, rest = (inspect.getdoc(documented) or "").partition("\n")
    text, _, example = rest.partition("\nExample:\n")
    facts = {label: _joined(fact) for label, fact in _FACT.findall(text)}
    return Text(summary, facts, textwrap.dedent(example).strip())


def _joined(text: str) -> str:
    return " ".join(text.split())
