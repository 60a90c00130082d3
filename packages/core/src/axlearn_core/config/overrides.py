"""Overrides in words: `learner.optimizer.lr=3e-4`, `model.**.dropout.rate=0.1`.

`*` stands for one path segment and `**` for any number. Where the field holds a component, the
value is a registered name and swaps it by the rule of `replace`:
`model.decoder.layer.norm=layers/layer_norm`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from axlearn_core.config.edit import merged, put_member
from axlearn_core.config.errors import ConfigError, near_names
from axlearn_core.config.factory import Configurable, config_for, members
from axlearn_core.config.origin import setting_as
from axlearn_core.config.record import ConfigBase
from axlearn_core.config.typecheck import Mismatch, describe, fit

Resolve = Callable[[str], Any]
"""Returns the class or function that a registered name stands for; raises a UserError."""


def apply_overrides(
    cfg: ConfigBase, overrides: Sequence[str], *, resolve: Resolve | None = None
) -> ConfigBase:
    """Applies `path=value` words in order, in place, and returns `cfg`.

    Raises:
        ConfigError: for a word that is no override, a path that matches nothing, or a value that
            does not fit; the message offers near names and the expected type.
    """
    for number, word in enumerate(overrides, 1):
        pattern, equals, text = word.partition("=")
        if not equals or not pattern:
            raise ConfigError(f"{word!r} is no override; write path=value, such as max_step=100")
        places = list(_matches(cfg, pattern.strip()))
        if not places:
            raise ConfigError(_nothing_matches(cfg, word, pattern.strip()))
        with setting_as(f"override {number}: {word}"):
            for path, parent, key in places:
                put_member(parent, key, _new_value(path, parent, key, text, resolve))
    return cfg


def paths(cfg: ConfigBase) -> Iterator[tuple[str, Any]]:
    """Yields (path, value) of everything in a tree that an override can name, parents first."""
    for path, parent, key in _places(cfg):
        yield path, _get(parent, key)


def _places(value: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key, item in members(value):
        path = f"{prefix}.{key}" if prefix else str(key)
        if not isinstance(value, tuple):  # tuples are set as a whole
            yield path, value, key
        yield from _places(item, path)


def _matches(cfg: ConfigBase, pattern: str) -> list[tuple[str, Any, Any]]:
    regex = re.compile(_glob_regex(pattern))
    return [place for place in _places(cfg) if regex.fullmatch(place[0])]


def _glob_regex(pattern: str) -> str:
    out = ""
    for segment in pattern.split("."):
        if segment == "**":
            out += r"(?:[^.]+\.)*"
        else:
            out += "".join(r"[^.]*" if c == "*" else re.escape(c) for c in segment) + r"\."
    return out.removesuffix(r"\.")


def _get(parent: Any, key: Any) -> Any:
    return getattr(parent, key) if isinstance(parent, ConfigBase) else parent[key]


def _nothing_matches(cfg: ConfigBase, word: str, pattern: str) -> str:
    known = [path for path, _ in paths(cfg)]
    message = f"override {word!r} matches nothing."
    if "*" in pattern:
        leaf = pattern.rpartition(".")[2]
        holders = [path for path in known if path.rpartition(".")[2] == leaf]
        if holders:
            return f"{message} Fields called {leaf!r} are at: {', '.join(holders[:8])}."
        leaves = {path.rpartition(".")[2] for path in known}
        return f"{message} No field is called {leaf!r}.{near_names(leaf, leaves)}"
    parent, _, leaf = pattern.rpartition(".")
    while parent and parent not in known:
        parent, _, leaf = parent.rpartition(".")
    depth = parent.count(".") + 1 if parent else 0
    siblings = [
        path.rpartition(".")[2]
        for path in known
        if path.count(".") == depth and path.startswith(f"{parent}." if parent else "")
    ]
    where = f"{parent!r} has no field {leaf!r}." if parent else f"There is no field {leaf!r}."
    offer = near_names(leaf, siblings) or near_names(pattern, known)
    return f"{message} {where}{offer} Fields there: {', '.join(siblings) or 'none'}."


def _new_value(path: str, parent: Any, key: Any, text: str, resolve: Resolve | None) -> Any:
    old = _get(parent, key)
    annotation = parent.annotation(key) if isinstance(parent, ConfigBase) else Any
    if isinstance(old, ConfigBase) and text not in ("null", "None"):
        return _component(path, old, text, resolve)
    try:
        return parse_value(text, annotation)
    except Mismatch:
        pass
    if resolve is not None and _takes_config(annotation):
        return _component(path, None, text, resolve)
    raise ConfigError(f"{path} must be {describe(annotation)}, got {text!r}")


def _component(path: str, old: ConfigBase | None, text: str, resolve: Resolve | None) -> ConfigBase:
    if resolve is None:
        raise ConfigError(f"{path} holds a component, and names cannot be looked up here")
    target = resolve(text)
    if isinstance(target, type) and issubclass(target, Configurable):
        new: ConfigBase = target.Config()
    else:
        new = config_for(target)
    return new if old is None else merged(old, new)[0]


def _takes_config(annotation: Any) -> bool:
    try:
        fit(_PROBE, annotation)
    except Mismatch:
        return annotation is not Any and "Config" in str(annotation)
    return True


_PROBE = ConfigBase()


def parse_value(text: str, annotation: Any) -> Any:
    """Reads a word as JSON (or True/False/None), and as a plain string where that fits.

    Raises:
        Mismatch: if neither reading fits the annotation.
    """
    readings: list[Any] = []
    try:
        readings.append(json.loads(_PYTHON_WORDS.get(text, text)))
    except json.JSONDecodeError:
        pass
    if readings and isinstance(readings[0], float) and readings[0].is_integer():
        readings.append(int(readings[0]))  # max_step=1e4
    for reading in [*readings, text]:
        try:
            return fit(reading, annotation)
        except Mismatch as error:
            mismatch = error
    raise mismatch


_PYTHON_WORDS = {"None": "null", "True": "true", "False": "false", "inf": "Infinity"}
