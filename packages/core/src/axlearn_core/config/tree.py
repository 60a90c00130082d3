"""The shape of a config tree: what it holds, where, and how a place in it is set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from axlearn_core.config.record import ConfigBase
from axlearn_core.config.typecheck import member_annotation, options

Keys = tuple[Any, ...]
"""The way to a place: names of fields, indices of lists, keys of dicts."""


def dotted(keys: Keys) -> str:
    """Writes keys as a path: `model.layers.0.norm`."""
    return ".".join(map(str, keys))


def members(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields (key, member) of a config, list, tuple or mapping; nothing for other values."""
    if isinstance(value, (ConfigBase, Mapping)):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


def walk(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yields (keys, value) of everything below `value`, parents first."""
    for key, member in members(value):
        yield (*keys, key), member
        yield from walk(member, (*keys, key))


def nodes(cfg: ConfigBase) -> Iterator[tuple[Keys, ConfigBase]]:
    """Yields (keys, node) of `cfg` itself and every config below it, parents first."""
    yield (), cfg
    for keys, value in walk(cfg):
        if isinstance(value, ConfigBase):
            yield keys, value


def holds_config(value: Any) -> bool:
    """Whether a value is a config or a container with one somewhere in it."""
    return isinstance(value, ConfigBase) or any(
        isinstance(member, ConfigBase) for _, member in walk(value)
    )


def label_paths(cfg: ConfigBase) -> None:
    """Tells every node of a tree its path, for errors."""
    for keys, node in nodes(cfg):
        node._path = dotted(keys)


def field_of(cfg: ConfigBase, keys: Keys) -> tuple[ConfigBase, Keys]:
    """Returns the nearest config around a place, and the rest of the way: its field first."""
    owner, start, holder = cfg, 0, cfg
    for index, key in enumerate(keys[:-1], 1):
        holder = _member(holder, key)
        if isinstance(holder, ConfigBase):
            owner, start = holder, index
    return owner, keys[start:]


def value_at(cfg: ConfigBase, keys: Keys) -> Any:
    """Returns the value at a place; None for a field that is not there yet."""
    value: Any = cfg
    for key in keys:
        value = _member(value, key)
    return value


def annotation_at(cfg: ConfigBase, keys: Keys) -> Any:
    """Returns the declared type of a place, also inside containers."""
    owner, (name, *inner) = field_of(cfg, keys)
    annotation = owner.annotation(name)
    for key in inner:
        annotation = member_annotation(annotation, key)
    return annotation


def assign(cfg: ConfigBase, keys: Keys, value: Any) -> None:
    """Sets a place to a value that the caller gives away.

    Inside containers, the field that holds them is assigned a changed one, so that it is checked
    and marked as set like any other; configs on the way stay the same objects.
    """
    owner, (name, *inner) = field_of(cfg, keys)
    owner._store(name, _changed(owner.__dict__.get(name), inner, value))


def config_class(annotation: Any) -> type[ConfigBase] | None:
    """The first concrete Config class that an annotation names, if it names one."""
    for option in options(annotation):
        if isinstance(option, type) and issubclass(option, ConfigBase) and option is not ConfigBase:
            return option
    return None


def _member(holder: Any, key: Any) -> Any:
    return holder.__dict__.get(key) if isinstance(holder, ConfigBase) else holder[key]


def _changed(container: Any, keys: list[Any], value: Any) -> Any:
    if not keys:
        return value
    key, *rest = keys
    member = _changed(container[key], rest, value)
    if isinstance(container, Mapping):
        return {**container, key: member}
    return type(container)(member if i == key else item for i, item in enumerate(container))
