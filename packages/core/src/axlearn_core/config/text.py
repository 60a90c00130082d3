"""Canonical text: one `path: value` line for each value that differs from its default.

It hashes, it diffs, and it is what golden files hold. A line whose value is a class name says
that another component than the default one stands at that path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from axlearn_core.config.factory import members
from axlearn_core.config.record import ConfigBase
from axlearn_core.config.required import REQUIRED


def to_text(cfg: ConfigBase) -> str:
    """Returns the canonical text of a tree; the first line names the root's class."""
    lines = [f"# {class_name(cfg)}", *(f"{path}: {value}" for path, value in canonical(cfg).items())]
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


def _lines(value: Any, path: str, default: Any) -> Iterator[tuple[str, str]]:
    """Yields the lines of `value`; `default` is _NOTHING where every line is wanted."""
    if isinstance(value, ConfigBase):
        yield from _config_lines(value, path, default)
    elif any(isinstance(member, ConfigBase) for _, member in members(value)):
        if default is _NOTHING or value != default:
            for key, member in members(value):
                yield from _lines(member, f"{path}.{key}", _NOTHING if default is _NOTHING else None)
    elif default is _NOTHING or type(value) is not type(default) or value != default:
        yield path, format_value(value)


def _config_lines(cfg: ConfigBase, path: str, default: Any) -> Iterator[tuple[str, str]]:
    everything = default is _NOTHING
    if path and (everything or type(default) is not type(cfg)):
        yield path, class_name(cfg)
    if not everything and type(default) is not type(cfg):
        default = type(cfg)()
    for name, value in cfg.items():
        where = f"{path}.{name}" if path else name
        if everything:
            yield from _lines(value, where, _NOTHING)
        else:
            yield from _lines(value, where, default.__dict__.get(name, _ABSENT))


_ABSENT: Any = type("Absent", (), {"__eq__": lambda self, other: False, "__hash__": None})()


def class_name(cfg: ConfigBase) -> str:
    """Names what a node builds: `module.Class` or `module.function`."""
    target: Any = type(cfg)._target or type(cfg)
    return f"{target.__module__}.{target.__qualname__}"


def format_value(value: Any) -> str:
    """Writes one value so that an override could read it back, where it can be a word."""
    if value is REQUIRED:
        return "REQUIRED"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(format_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        items = sorted(value.items(), key=lambda pair: str(pair[0]))
        return "{" + ", ".join(f"{json.dumps(str(k))}: {format_value(v)}" for k, v in items) + "}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(format_value(item) for item in value)) + "}"
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)
