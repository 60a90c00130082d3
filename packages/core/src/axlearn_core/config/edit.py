"""Edits of whole trees: visit, find, and replace, which swaps every node of a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from axlearn_core.config.errors import ConfigError, FieldTypeError
from axlearn_core.config.factory import Configurable, members, nodes
from axlearn_core.config.origin import DEFAULT
from axlearn_core.config.record import ConfigBase
from axlearn_core.config.required import REQUIRED

C = TypeVar("C", bound=ConfigBase)
Kind = type[Configurable] | type[ConfigBase] | Callable[..., Any]
"""A configurable class, a Config class, or the function of a `config_for` node."""


class Replacement(NamedTuple):
    """One swapped node: its path, and the fields that the new node does not take."""

    path: str
    dropped: tuple[str, ...]


def visit(cfg: ConfigBase, function: Callable[[str, ConfigBase], None]) -> None:
    """Calls `function(path, node)` for every node, parents first; the root's path is ""."""
    for path, node in list(nodes(cfg)):
        function(path, node)


def find(cfg: ConfigBase, kind: Kind) -> list[tuple[str, ConfigBase]]:
    """Returns (path, live node) of every node that builds a `kind`, subclasses included."""
    return [(path, node) for path, node in nodes(cfg) if _is_kind(node, kind)]


def missing(cfg: ConfigBase) -> list[str]:
    """Lists the paths of all values in the tree that are still REQUIRED.

    Some of them (dimensions, mostly) are filled in by the parent when the tree is built.
    """
    return [
        f"{path}.{name}" if path else name
        for path, node in nodes(cfg)
        for name, value in node.items()
        if value is REQUIRED
    ]


def replace(cfg: ConfigBase, kind: Kind, new: ConfigBase) -> list[Replacement]:
    """Swaps every node below `cfg` that builds a `kind` for a copy of `new`, in place.

    Fields that both declare are carried over from the old node, what `new` sets explicitly wins,
    and what the new node does not declare (or cannot take) is reported as dropped.

    Raises:
        ConfigError: if nothing matches, or if the root itself does (assign that one directly).
    """
    if _is_kind(cfg, kind):
        raise ConfigError(
            f"the root itself is a {_name(kind)}, and a config cannot replace itself; "
            "use merged(old, new) and assign the result"
        )
    report: list[Replacement] = []
    _replace_below(cfg, kind, new, "", report)
    if not report:
        present = sorted({_name(type(node)).removesuffix(".Config") for _, node in nodes(cfg)})
        raise ConfigError(
            f"found no {_name(kind)} to replace. The tree holds: {', '.join(present)}."
        )
    return report


def merged(old: ConfigBase, new: C) -> tuple[C, tuple[str, ...]]:
    """Returns a copy of `new` with the fields of `old` carried over, and what was dropped."""
    result = new.clone()
    dropped = []
    for name, value in old.items():
        if value is REQUIRED or (name in new._fields and new.origin(name) != DEFAULT):
            continue
        if not result._accepts(name):
            dropped.append(name)
            continue
        try:
            setattr(result, name, value)
        except FieldTypeError:
            dropped.append(name)
        else:
            result._origins[name] = old.origin(name)
    return result, tuple(dropped)


def _is_kind(node: ConfigBase, kind: Kind) -> bool:
    if isinstance(kind, type) and issubclass(kind, ConfigBase):
        return isinstance(node, kind)
    if isinstance(kind, type) and issubclass(kind, Configurable):
        return isinstance(node, kind.Config)
    return type(node)._target is kind


def _name(kind: Kind) -> str:
    return cast(str, getattr(kind, "__qualname__", repr(kind)))


def _replace_below(
    value: Any, kind: Kind, new: ConfigBase, path: str, report: list[Replacement]
) -> None:
    for key, item in list(members(value)):
        where = f"{path}.{key}" if path else str(key)
        if not (isinstance(item, ConfigBase) and _is_kind(item, kind)):
            if isinstance(item, tuple) and any(_is_kind(n, kind) for _, n in nodes(item)):
                item = list(item)  # a tuple is swapped as a whole, below
                _replace_below(item, kind, new, where, report)
                put_member(value, key, tuple(item))
            else:
                _replace_below(item, kind, new, where, report)
            continue
        swapped, dropped = merged(item, new)
        put_member(value, key, swapped)
        report.append(Replacement(where, dropped))


def put_member(container: Any, key: str | int, value: Any) -> None:
    """Assigns a member of a config, list or dict."""
    if isinstance(container, ConfigBase):
        setattr(container, str(key), value)
    else:
        container[key] = value
