"""Canonical text: one `path: value` line for each value that differs from its default.

It hashes, it diffs, and it is what golden files hold. A line whose value is a class name says
that another component than the default one stands at that path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from axlearn_core.config.record import ConfigBase
from axlearn_core.config.required import REQUIRED
from axlearn_core.config.tree import holds_config, members


def to_text(cfg: ConfigBase) -> str:
    """Returns the canonical text of a tree; the first line names the root's class."""
    lines = [
        f"# {class_name(cfg)}",
        *(f"{path}: {value}" for path, value in canonical(cfg).items()),
    ]
    return "\n".join(lines) + "\n"


def config_hash(cfg: ConfigBase) -> str:
    """Returns 16 hexadecimal digits that two configs share only if their text is the same."""
    return hashlib.sha256(to_text(cfg).encode()).hexdigest()[:16]


class Difference(NamedTuple):
    """One path at which two configs differ; a side that does not hold the path is None."""

    path: str
    old: str | None
    new: str | None


def diff(old: ConfigBase, new: ConfigBase) -> list[Difference]:
    """Lists what differs between two trees, value by value (defaults are compared too)."""
    before, after = flat(old), flat(new)
    every = sorted(before.keys() | after.keys())
    return [
        Difference(path, before.get(path), after.get(path))
        for path in every
        if before.get(path) != after.get(path)
    ]


def flat(cfg: ConfigBase) -> dict[str, str]:
    """Returns every value of a tree by path, defaults included."""
    return dict(sorted(_lines(cfg, "", _NOTHING)))


def canonical(cfg: ConfigBase) -> dict[str, str]:
    """Returns the values by path that differ from their class defaults."""
    return dict(sorted(_lines(cfg, "", type(cfg)())))


_NOTHING: Any = object()
"""The default of a tree of which every line is wanted."""

_ABSENT: Any = object()
"""The default of a value that has none."""


def _lines(value: Any, path: str, default: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, ConfigBase):
        yield from _config_lines(value, path, default)
    elif default is not _NOTHING and type(value) is type(default) and value == default:
        return
    elif holds_config(value):
        for key, member in members(value):
            yield from _lines(member, f"{path}.{key}", _NOTHING if default is _NOTHING else _ABSENT)
    else:
        yield path, format_value(value)


def _config_lines(cfg: ConfigBase, path: str, default: Any) -> Iterator[tuple[str, str]]:
    if path and type(default) is not type(cfg):
        yield path, class_name(cfg)
    if default is not _NOTHING and type(default) is not type(cfg):
        default = type(cfg)()
    for name, value in cfg.items():
        usual = _NOTHING if default is _NOTHING else default.__dict__.get(name, _ABSENT)
        yield from _lines(value, f"{path}.{name}" if path else name, usual)


def class_name(cfg: ConfigBase) -> str:
    """Names what a node builds: `module.Class` or `module.function`."""
    return format_value(type(cfg)._target or type(cfg))


def format_value(value: Any) -> str:
    """Writes one value so that an override could read it back, where it can be a word."""
    if value is REQUIRED:
        return "REQUIRED"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(format_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        items = sorted(value.items(), key=lambda pair: str(pair[0]))
        return "{" + ", ".join(f"{format_value(k)}: {format_value(v)}" for k, v in items) + "}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(format_value(item) for item in value)) + "}"
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # the same text in every process
