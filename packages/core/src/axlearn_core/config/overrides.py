"""Overrides in words: `learner.optimizer.lr=3e-4`, `model.**.dropout.rate=0.1`.

`*` stands for one path segment and `**` for any number. Where the field holds a component, the
value is a registered name and swaps it by the rule of `replace`:
`model.decoder.layer.norm=layers/layer_norm`. A list of components is one of such names:
`writers=["tensorboard"]`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from axlearn_core.config.callables import config_for
from axlearn_core.config.edit import merged
from axlearn_core.config.errors import ConfigError, near_names
from axlearn_core.config.factory import Configurable
from axlearn_core.config.origin import DEFAULT, active_setting, setting_as
from axlearn_core.config.record import ConfigBase
from axlearn_core.config.tree import (
    Keys,
    annotation_at,
    assign,
    config_class,
    dotted,
    field_of,
    label_paths,
    nodes,
    value_at,
    walk,
)
from axlearn_core.config.typecheck import Mismatch, describe, fit, member_annotation
from axlearn_core.errors import UserError

Resolve = Callable[[str], Any]
"""Returns the class or function that a registered name stands for; raises a UserError."""

_logger = logging.getLogger(__name__)


def apply_overrides(
    cfg: ConfigBase, overrides: Sequence[str], *, resolve: Resolve | None = None
) -> ConfigBase:
    """Applies `path=value` words in order, in place, and returns `cfg`.

    Raises:
        ConfigError: for a word that is no override, a path that matches nothing, or a value that
            does not fit; the message offers near names and the expected type.
    """
    within = active_setting()
    for number, word in enumerate(overrides, 1):
        pattern, equals, text = word.partition("=")
        if not equals or not pattern:
            raise ConfigError(f"{word!r} is no override; write path=value, such as max_step=100")
        label_paths(cfg)
        places = _matches(cfg, pattern)
        if not places:
            raise ConfigError(f"override {word!r} matches nothing. {_hint(cfg, pattern)}")
        with setting_as(within or f"override {number}: {word}"):
            for keys in reversed(places):  # what is below a swapped node has to be set before it
                assign(cfg, keys, _new_value(cfg, keys, text, resolve))
    return cfg


def paths(cfg: ConfigBase) -> Iterator[tuple[str, Any]]:
    """Yields (path, value) of everything in a tree that an override can name, parents first."""
    for keys, value in walk(cfg):
        yield dotted(keys), value


def declared(cfg: ConfigBase, path: str) -> str:
    """Returns the type that the value at a path must have, as one writes it in source code."""
    return describe(annotation_at(cfg, _keys(cfg, path)))


def where(cfg: ConfigBase, path: str) -> str:
    """Says where the value at a path was set: "file:line", an override, or "default".

    A default that came along with a component says where that component was set.

    Raises:
        ConfigError: if the tree has no such path.
    """
    keys = _keys(cfg, path)
    owner, (name, *_) = field_of(cfg, keys)
    origin = owner.origin(name)
    if origin != DEFAULT:
        return origin
    for end in range(len(keys) - 1, 0, -1):
        owner, (name, *_) = field_of(cfg, keys[:end])
        if (above := owner.origin(name)) != DEFAULT:
            return f"default ({dotted(keys[:end])} was set at {above})"
    return origin


def _keys(cfg: ConfigBase, path: str) -> Keys:
    keys = next((keys for keys, _ in walk(cfg) if dotted(keys) == path), ())
    if not keys:
        raise ConfigError(f"there is no {path!r}. {_hint(cfg, path)}")
    return keys


def _matches(cfg: ConfigBase, pattern: str) -> list[Keys]:
    regex = re.compile(_glob_regex(pattern))
    found = [keys for keys, _ in walk(cfg) if regex.fullmatch(dotted(keys))]
    return found or _new_keyword(cfg, pattern)


def _new_keyword(cfg: ConfigBase, path: str) -> list[Keys]:
    """A field that does not exist yet, of a function that takes any keyword."""
    parent, _, name = path.rpartition(".")
    return [
        (*keys, name)
        for keys, node in nodes(cfg)
        if dotted(keys) == parent and "*" not in name and node._accepts(name)
    ]


def _glob_regex(pattern: str) -> str:
    """Writes a pattern as a regex that needs time linear in a path for each of its stars.

    Once a part behind a star is found, nothing is gained by finding it further on: `(?>...)`.
    """
    out = ""
    for segment in re.sub(r"(?<![^.])\*\*(\.\*\*)+(?![^.])", "**", pattern).split("."):
        if segment == "**":
            out += r"(?:[^.]+\.)*"
            continue
        first, *rest = map(re.escape, re.split(r"\*+", segment))
        middle = "".join(rf"(?>[^.]*?{part})" for part in rest[:-1])
        out += first + middle + (rf"[^.]*{rest[-1]}" if rest else "") + r"\."
    return out.removesuffix(r"\.")


def _hint(cfg: ConfigBase, pattern: str) -> str:
    """Says what the tree has near a path or pattern that it does not have."""
    known = dict(paths(cfg))
    leaf = pattern.rpartition(".")[2]
    if "*" in pattern:
        holders = [path for path in known if path.rpartition(".")[2] == leaf]
        if holders:
            return f"Fields called {leaf!r} are at: {', '.join(holders[:8])}."
        return f"No field is called {leaf!r}.{near_names(leaf, _leaves(known))}"
    parent, _, leaf = pattern.rpartition(".")
    while parent and parent not in known:
        parent, _, leaf = parent.rpartition(".")
    if isinstance(known.get(parent), dict):
        return f"A dict gets a new key when all of it is set: {parent}={{...}}."
    start = f"{parent}." if parent else ""
    siblings = _leaves(path for path in known if path.rpartition(".")[0] == parent)
    offer = near_names(leaf, siblings) or near_names(pattern, known)
    place = f"{start[:-1]!r} has no field" if parent else "There is no field"
    return f"{place} {leaf!r}.{offer} Fields there: {', '.join(siblings) or 'none'}."


def _leaves(known: Any) -> list[str]:
    return list(dict.fromkeys(path.rpartition(".")[2] for path in known))


def _new_value(cfg: ConfigBase, keys: Keys, text: str, resolve: Resolve | None) -> Any:
    old, annotation, path = value_at(cfg, keys), annotation_at(cfg, keys), dotted(keys)
    is_component = isinstance(old, ConfigBase)
    try:
        return parse_value(text, annotation, plain=not is_component)
    except Mismatch as mismatch:
        reason = mismatch.reason and f": {mismatch.reason}"
    message = f"{path} must be {describe(annotation)}, got {text!r}{reason}"
    names = _names_in_list(text, annotation)
    one = is_component or config_class(annotation) or _fits(ConfigBase(), annotation)
    if not (one or names):
        raise ConfigError(message)
    if resolve is None:
        raise ConfigError(f"{message}; names of components cannot be looked up here")
    try:
        if names:
            return [_config_of(resolve(name)) for name in names]
        new = _config_of(resolve(text))
    except UserError as error:
        raise ConfigError(f"{message}: {error}") from error
    return _swapped(path, old, new) if isinstance(old, ConfigBase) else new


def _names_in_list(text: str, annotation: Any) -> list[str]:
    """Reads `["tensorboard"]` where a list of components belongs; [] for anything else."""
    with contextlib.suppress(ValueError, RecursionError):
        names = json.loads(text)
        words = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if words and config_class(member_annotation(annotation, 0)):
            return cast(list[str], names)
    return []


def _swapped(path: str, old: ConfigBase, new: ConfigBase) -> ConfigBase:
    swapped, dropped = merged(old, new)
    if lost := [name for name in dropped if old.origin(name.partition(".")[0]) != DEFAULT]:
        _logger.warning("%s drops what was set on the old one: %s", path, ", ".join(lost))
    return swapped


def _config_of(target: Any) -> ConfigBase:
    if isinstance(target, type) and issubclass(target, Configurable):
        return target.Config()
    return config_for(target)


def parse_value(text: str, annotation: Any, *, plain: bool = True) -> Any:
    """Reads a word as JSON (or True, None, ...), and where that does not fit, as a `plain` string.

    Raises:
        Mismatch: if no reading fits the annotation.
    """
    readings: list[Any] = []
    # A ValueError for numbers of thousands of digits, too.
    with contextlib.suppress(ValueError, RecursionError):
        readings.append(json.loads(_PYTHON_WORDS.get(text, text)))
    if readings and isinstance(readings[0], float) and readings[0].is_integer():
        readings.append(int(readings[0]))  # max_step=1e4
    reason = ""
    for reading in [*readings, text] if plain else readings:
        try:
            return fit(reading, annotation)
        except Mismatch as mismatch:
            reason = mismatch.reason
    raise Mismatch(text, annotation, reason=reason)


_PYTHON_WORDS = {
    "None": "null",
    "True": "true",
    "False": "false",
    "inf": "Infinity",
    "-inf": "-Infinity",
    "nan": "NaN",
}


def _fits(value: Any, annotation: Any) -> bool:
    try:
        fit(value, annotation)
    except Mismatch:
        return False
    return True
