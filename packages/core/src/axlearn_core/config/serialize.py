"""Configs as JSON.

Every value is written, defaults too, so that a file means the same after a default has changed.
A component is written by its registered name and looked up in the registry again; no file can
make the program import a dotted name.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, cast

from axlearn_core.config.errors import ConfigError
from axlearn_core.config.factory import Configurable, config_for
from axlearn_core.config.record import ConfigBase
from axlearn_core.config.required import REQUIRED

C = TypeVar("C", bound=ConfigBase)
_NAME, _CALL, _REFERENCE, _DEFAULT, _REQUIRED = "$component", "$call", "$ref", "$default", "$required"


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
    """Reads what `to_json` wrote of a config of type `kind`."""
    return cast(C, _decode_fields(kind(), json.loads(text), "", names))


def _encode_fields(cfg: ConfigBase, path: str, names: Names) -> dict[str, Any]:
    default = type(cfg)()
    return {
        name: _encode(value, default.__dict__.get(name), cfg.annotation(name), _at(path, name), names)
        for name, value in cfg.items()
    }


def _encode(value: Any, default: Any, annotation: Any, path: str, names: Names) -> Any:
    if value is REQUIRED:
        return {_REQUIRED: True}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, ConfigBase):
        return _encode_node(value, default, annotation, path, names)
    if isinstance(value, (list, tuple)):
        item = _item_annotation(annotation)
        return [_encode(v, None, item, f"{path}.{i}", names) for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise ConfigError(f"{path}: JSON keys are strings, got {bad[0]!r}")
        item = _item_annotation(annotation)
        return {k: _encode(v, None, item, f"{path}.{k}", names) for k, v in value.items()}
    if name := names.name_of(value):
        return {_REFERENCE: name}
    if value is default or (type(value) is type(default) and value == default):
        return {_DEFAULT: True}
    raise ConfigError(f"{path} = {value!r} cannot be written: no plugin registers it. {_REGISTER}")


def _encode_node(cfg: ConfigBase, default: Any, annotation: Any, path: str, names: Names) -> Any:
    fields = _encode_fields(cfg, path, names)
    target = type(cfg)._target
    if name := names.name_of(target):
        key = _NAME if _is_configurable(target) else _CALL
        return {key: name, **fields}
    if type(default) is type(cfg) or _config_class(annotation) is type(cfg):
        return fields
    shown = getattr(target, "__qualname__", type(cfg).__qualname__)
    raise ConfigError(f"{path} holds {shown}, which no plugin registers. {_REGISTER}")


_REGISTER = "Announce it in a _plugin.py (see docs/plugins.md), so that a file can name it."


def _decode_fields(cfg: ConfigBase, data: Mapping[str, Any], path: str, names: Names) -> ConfigBase:
    for name, value in data.items():
        old = cfg.__dict__.get(name)
        annotation = cfg.annotation(name)
        setattr(cfg, name, _decode(value, old, annotation, _at(path, name), names))
    return cfg


def _decode(data: Any, default: Any, annotation: Any, path: str, names: Names) -> Any:
    item = _item_annotation(annotation)
    if isinstance(data, list):
        return [_decode(v, None, item, f"{path}.{i}", names) for i, v in enumerate(data)]
    if not isinstance(data, dict):
        return data
    rest = dict(data)
    if _REQUIRED in data:
        return REQUIRED
    if _DEFAULT in data:
        return default
    if _REFERENCE in data:
        return names.lookup(data[_REFERENCE])
    if _NAME in data:
        return _decode_fields(names.lookup(rest.pop(_NAME)).Config(), rest, path, names)
    if _CALL in data:
        return _decode_fields(config_for(names.lookup(rest.pop(_CALL))), rest, path, names)
    if isinstance(default, ConfigBase):
        return _decode_fields(type(default)(), rest, path, names)
    if (record := _config_class(annotation)) is not None:
        return _decode_fields(record(), rest, path, names)
    return {k: _decode(v, None, item, f"{path}.{k}", names) for k, v in data.items()}


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_configurable(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, Configurable)


def _item_annotation(annotation: Any) -> Any:
    """The declared type of a container's members: the last argument of the first container."""
    for option in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(option) in (list, tuple, dict):
            arguments = [a for a in typing.get_args(option) if a is not Ellipsis]
            return arguments[-1] if arguments else Any
    return Any


def _config_class(annotation: Any) -> type[ConfigBase] | None:
    """The one concrete Config class that an annotation names, if it names one."""
    for option in (annotation, *typing.get_args(annotation)):
        if isinstance(option, type) and issubclass(option, ConfigBase) and option is not ConfigBase:
            return option
    return None
