"""Edits of whole trees: visit, find, and replace, which swaps every node of a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

from axlearn_core.config.errors import ConfigError, FieldTypeError
from axlearn_core.config.factory import Configurable
from axlearn_core.config.origin import DEFAULT
from axlearn_core.config.record import ConfigBase, copy_value
from axlearn_core.config.required import REQUIRED
from axlearn_core.config.tree import Keys, assign, dotted, label_paths, members, nodes, walk
from axlearn_core.config.typecheck import describe

C = TypeVar("C", bound=ConfigBase)
Kind = type[Configurable] | type[ConfigBase] | Callable[..., Any]
"""A configurable class, a Config class, or the function of a `config_for` node."""


class Replacement(NamedTuple):
    """One swapped node: its path, and the fields that the new node does not take."""

    path: str
    dropped: tuple[str, ...]


def visit(cfg: ConfigBase, function: Callable[[str, ConfigBase], None]) -> None:
    """Calls `function(path, node)` for every node, parents first; the root's path is ""."""
    for keys, node in list(nodes(cfg)):
        function(dotted(keys), node)


def find(cfg: ConfigBase, kind: Kind) -> list[tuple[str, ConfigBase]]:
    """Returns (path, live node) of every node that builds a `kind`, subclasses included."""
    return [(dotted(keys), node) for keys, node in nodes(cfg) if _is_kind(node, kind)]


def missing(cfg: ConfigBase) -> list[str]:
    """Lists the paths of all values in the tree that are still REQUIRED.

    Some of them (dimensions, mostly) are filled in by the parent when the tree is built.
    """
    return [dotted(keys) for keys, value in walk(cfg) if value is REQUIRED]


def replace(
    cfg: ConfigBase, kind: Kind, new: ConfigBase | Callable[[Any], ConfigBase]
) -> list[Replacement]:
    """Swaps every node below `cfg` that builds a `kind` for a copy of `new`, in place.

    Fields that both declare are carried over from the old node, what `new` sets explicitly wins,
    and what the new node does not declare (or cannot take) is reported as dropped.

    A function instead makes each new node from a copy of the old one, and nothing is carried over.
    So wrappers are put around what is there::

        replace(cfg, Projection, lambda old: LoRA.default_config().set(inner=old))

    Raises:
        ConfigError: if nothing matches, or if the root itself does (assign that one directly), or
            if the function returns no config.
    """
    if _is_kind(cfg, kind):
        raise ConfigError(
            f"the root itself is a {_name(kind)}, and a config cannot replace itself; "
            "use merged(old, new) and assign the result"
        )
    label_paths(cfg)
    report: list[Replacement] = []
    for keys, old in list(_outermost(cfg, kind)):
        swapped, dropped = (
            merged(old, new) if isinstance(new, ConfigBase) else (_made(new, old), ())
        )
        assign(cfg, keys, swapped)
        report.append(Replacement(dotted(keys), dropped))
    if not report:
        present = sorted({_name(type(node)).removesuffix(".Config") for _, node in nodes(cfg)})
        raise ConfigError(
            f"found no {_name(kind)} to replace. The tree holds: {', '.join(present)}."
        )
    return report


def _made(function: Callable[[Any], ConfigBase], old: ConfigBase) -> ConfigBase:
    made = function(old.clone())
    if not isinstance(made, ConfigBase):
        raise ConfigError(
            f"replace: the function made {made!r} of {describe(type(old))}; it must return a config"
        )
    return made.clone()  # the function may keep what it made


def merged(old: ConfigBase, new: C) -> tuple[C, tuple[str, ...]]:
    """Returns a copy of `new` with the fields of `old` carried over, and what was dropped."""
    result, fresh = new.clone(), type(new)()
    dropped: list[str] = []
    for name, value in old.items():
        if value is REQUIRED:
            continue
        if name not in new._fields:
            dropped.append(name)
        elif new.origin(name) != DEFAULT:
            continue
        elif not _edited(ours := getattr(new, name), getattr(fresh, name)):
            if not _carry(old, name, result):
                dropped.append(name)
        elif isinstance(ours, ConfigBase) and isinstance(value, ConfigBase):
            inner, lost = merged(value, ours)
            setattr(result, name, inner)
            dropped.extend(f"{name}.{field}" for field in lost)
    return result, tuple(dropped)


def _carry(old: ConfigBase, name: str, new: ConfigBase) -> bool:
    value = copy_value(getattr(old, name))
    origin = old.origin(name)
    if origin == DEFAULT:
        if value == getattr(new, name):
            return True
        origin = f"default of {describe(type(old))}, carried over"
    try:
        new._store(name, value)
    except FieldTypeError:
        return False
    new._origins[name] = origin
    return True


def _edited(value: Any, default: Any) -> bool:
    """Whether anything in `value` was set since the class body gave the field its default."""
    if isinstance(value, ConfigBase) and type(value) is type(default):
        return value._origins != default._origins or any(
            _edited(member, default.__dict__.get(name)) for name, member in value.items()
        )
    inner, inner_default = dict(members(value)), dict(members(default))
    if inner and type(value) is type(default) and inner.keys() == inner_default.keys():
        return any(_edited(member, inner_default[key]) for key, member in inner.items())
    return bool(value != default)


def _is_kind(node: ConfigBase, kind: Kind) -> bool:
    if isinstance(kind, type) and issubclass(kind, ConfigBase):
        return isinstance(node, kind)
    if isinstance(kind, type) and issubclass(kind, Configurable):
        return isinstance(node, kind.Config)
    return type(node)._target is kind


def _name(kind: Kind) -> str:
    return cast(str, getattr(kind, "__qualname__", repr(kind)))


def _outermost(value: Any, kind: Kind, keys: Keys = ()) -> Iterator[tuple[Keys, ConfigBase]]:
    for key, member in members(value):
        here = (*keys, key)
        if isinstance(member, ConfigBase) and _is_kind(member, kind):
            yield here, member
        else:
            yield from _outermost(member, kind, here)
