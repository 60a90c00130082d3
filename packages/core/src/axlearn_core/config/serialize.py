"""Configs as JSON.

Every value is written, defaults too, so that a file means the same after a default has changed.
A component is written by its registered name and looked up in the registry again; no file can
make the program import a dotted name. Objects with one of these keys are no plain dicts:

    $component, $call   a node, by the registered name of its class or function
    $ref                a registered object itself
    $required, $default REQUIRED; an object that stayed the class's default
    $tuple, $dict       what the annotation alone would read as a list, or as a config

A `Word` is its text where the annotation reads it back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from axlearn_core.config.callables import CallableConfig, config_for
from axlearn_core.config.errors import ConfigError
from axlearn_core.config.factory import Configurable
from axlearn_core.config.record import ConfigBase
from axlearn_core.config.required import REQUIRED
from axlearn_core.config.tree import config_class
from axlearn_core.config.typecheck import Mismatch, fit, member_annotation
from axlearn_core.config.word import Word
from axlearn_core.errors import UserError

C = TypeVar("C", bound=ConfigBase)


class Names(Protocol):
    """What JSON needs of the registry."""

    def name_of(self, obj: Any) -> str | None:
        """Returns the qualified name that an object is registered under, or None."""
        ...

    def lookup(self, name: str) -> Any:
        """Returns the object that is registered under a name; raises a UserError."""
        ...


def to_json(cfg: ConfigBase, names: Names) -> str:
    """Writes a tree as JSON.

    Raises:
        ConfigError: for a component, function or object that no plugin registers.
    """
    return json.dumps(_encode_fields(cfg, "", names), indent=1)


def from_json(text: str, kind: type[C], names: Names) -> C:
    """Reads what `to_json` wrote of a config of type `kind`.

    Raises:
        ConfigError: for anything else; names that the registry does not know raise its UserError.
    """
    try:
        data = json.loads(text)
        return _decode_fields(kind(), data, "", names)
    # Numbers of thousands of digits are no JSONDecodeError, and neither is what is nested too deep.
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"this is not the JSON of a config: {error}") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise ConfigError(f"this is not the JSON of a config: {error}") from error


def _encode_fields(cfg: ConfigBase, path: str, names: Names) -> dict[str, Any]:
    default = type(cfg)()
    return {
        name: _encode(
            value, default.__dict__.get(name), cfg.annotation(name), _at(path, name), names
        )
        for name, value in cfg.items()
    }


def _encode(value: Any, default: Any, annotation: Any, path: str, names: Names) -> Any:
    if value is REQUIRED:
        return {"$required": True}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, ConfigBase):
        return _encode_node(value, default, annotation, path, names)
    if isinstance(value, (list, tuple)):
        items = [
            _encode(item, None, member_annotation(annotation, i), f"{path}.{i}", names)
            for i, item in enumerate(value)
        ]
        return {"$tuple": items} if _is_no_list(value, annotation) else items
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str) or key.startswith("$")]:
            raise ConfigError(f"{path}: JSON keys are strings without a leading $, got {bad[0]!r}")
        data = {
            key: _encode(item, None, member_annotation(annotation, key), f"{path}.{key}", names)
            for key, item in value.items()
        }
        return {"$dict": data} if _expected(default, annotation) else data
    if isinstance(value, Word) and _reads_back(value, annotation):
        return str(value)
    if name := names.name_of(value):
        return {"$ref": name}
    if type(value) is type(default) and value == default:
        return {"$default": True}
    raise ConfigError(
        f"{path} = {value!r} cannot be written: JSON has no such value, and no plugin "
        f"registers it. {_REGISTER}"
    )


def _encode_node(cfg: ConfigBase, default: Any, annotation: Any, path: str, names: Names) -> Any:
    fields = _encode_fields(cfg, path, names)
    target = type(cfg)._target
    if name := names.name_of(target):
        return {"$call" if isinstance(cfg, CallableConfig) else "$component": name, **fields}
    if _expected(default, annotation) is type(cfg):
        return fields
    shown = getattr(target, "__qualname__", type(cfg).__qualname__)
    raise ConfigError(f"{path} holds {shown}, which no plugin registers. {_REGISTER}")


_REGISTER = "Announce it in a _plugin.py (see docs/plugins.md), so that a file can name it."


def _decode_fields(cfg: C, data: Any, path: str, names: Names) -> C:
    if not isinstance(data, dict):
        raise ConfigError(f"{path or 'the root'} must be a JSON object, got {json.dumps(data)}")
    cfg._path = path  # for errors
    for name, value in data.items():
        default, annotation = cfg.__dict__.get(name), cfg.annotation(name)
        setattr(cfg, name, _decode(value, default, annotation, _at(path, name), names))
    return cfg


def _decode(data: Any, default: Any, annotation: Any, path: str, names: Names) -> Any:
    if isinstance(data, list):
        return [
            _decode(item, None, member_annotation(annotation, i), f"{path}.{i}", names)
            for i, item in enumerate(data)
        ]
    if not isinstance(data, dict):
        return data
    match data:
        case {"$required": _}:
            return REQUIRED
        case {"$default": _}:
            return default
        case {"$ref": name}:
            return names.lookup(_text(name, path))
        case {"$component": name, **fields}:
            target = names.lookup(_text(name, path))
            return _decode_fields(_component(target, name, path), fields, path, names)
        case {"$call": name, **fields}:
            target = names.lookup(_text(name, path))
            return _decode_fields(_callable(target, name, path), fields, path, names)
        case {"$tuple": list(items)}:
            return tuple(_decode(items, None, annotation, path, names))
        case {"$dict": dict(items)}:
            return _decode_dict(items, annotation, path, names)
        case {"$tuple": _} | {"$dict": _}:
            raise ConfigError(f"{path}: $tuple holds a list and $dict an object, got {data!r}")
    if record := _expected(default, annotation):
        return _decode_fields(record(), data, path, names)
    return _decode_dict(data, annotation, path, names)


def _decode_dict(data: Mapping[str, Any], annotation: Any, path: str, names: Names) -> Any:
    return {
        key: _decode(item, None, member_annotation(annotation, key), f"{path}.{key}", names)
        for key, item in data.items()
    }


def _component(target: Any, name: str, path: str) -> ConfigBase:
    if not (isinstance(target, type) and issubclass(target, Configurable)):
        raise ConfigError(f"{path}: {name!r} is {target!r}, and not a Configurable class")
    return target.Config()


def _callable(target: Any, name: str, path: str) -> ConfigBase:
    if not callable(target):
        raise ConfigError(f"{path}: {name!r} is {target!r}, and nothing to call")
    return config_for(target)


def _text(name: Any, path: str) -> str:
    if not isinstance(name, str):
        raise ConfigError(f"{path}: a component's name is text, got {name!r}")
    return name


def _expected(default: Any, annotation: Any) -> type[ConfigBase] | None:
    """The class of a node that is written without a name."""
    return type(default) if isinstance(default, ConfigBase) else config_class(annotation)


def _is_no_list(value: Any, annotation: Any) -> bool:
    """Whether `value` is a tuple that the annotation would not make of a list."""
    if not isinstance(value, tuple):
        return False
    try:
        return not isinstance(fit(list(value), annotation), tuple)
    except Mismatch:
        return True


def _reads_back(value: Word, annotation: Any) -> bool:
    """Whether the annotation makes the same value of its text."""
    try:
        return bool(fit(str(value), annotation) == value)
    except Mismatch:
        return False


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
