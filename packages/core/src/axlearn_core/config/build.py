"""The one way in which a tree is built."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from typing import Any, NamedTuple

from axlearn_core.config.callables import CallableConfig, call
from axlearn_core.config.errors import BuildError, ConfigError, MissingFieldsError
from axlearn_core.config.record import ConfigBase
from axlearn_core.config.required import REQUIRED
from axlearn_core.config.tree import Keys, dotted, label_paths, walk
from axlearn_core.config.typecheck import describe


class _Unset(NamedTuple):
    """Paths found unset so far; see MissingFieldsError. Dicts keep order and drop duplicates."""

    certain: dict[str, None]
    perhaps: dict[str, None]


_unset: contextvars.ContextVar[_Unset | None] = contextvars.ContextVar("unset", default=None)


def build(config: ConfigBase, extra: Mapping[str, Any]) -> Any:
    """Builds one node; see `ConfigBase.instantiate`.

    A node that lacks required fields is noted and stands in its parent as REQUIRED, so that one
    error at the root can list everything that is unset. A parent that trips over the stand-in is
    no news, and becomes one itself.
    """
    own = config.clone()
    if (noted := _unset.get()) is not None:
        return _build_node(own, extra, noted)
    label_paths(own)
    noted = _Unset({}, {})
    token = _unset.set(noted)
    try:
        built = _build_node(own, extra, noted)
    finally:
        _unset.reset(token)
    if noted.certain:
        perhaps = [path for path in noted.perhaps if path not in noted.certain]
        raise MissingFieldsError(list(noted.certain), perhaps)
    return built


def _build_node(own: ConfigBase, extra: Mapping[str, Any], noted: _Unset) -> Any:
    if own_unset := [n for n, value in own.items() if value is REQUIRED and n not in extra]:
        noted.certain.update(dict.fromkeys(_path_of(own, (name,)) for name in own_unset))
        noted.perhaps.update(_unset_below(own))
        return REQUIRED
    try:
        built = _construct(own, extra)
        own.freeze()
    except Exception as error:
        if noted.certain:
            noted.perhaps.update(_unset_below(own))
            return REQUIRED
        if isinstance(error, BuildError):
            raise
        path = own._path or describe(type(own)).removesuffix(".Config")
        raise BuildError(path, error) from error
    return built


def _construct(own: ConfigBase, extra: Mapping[str, Any]) -> Any:
    own.check()
    if isinstance(own, CallableConfig):
        return call(own, extra)
    if own._target is None:
        raise ConfigError(
            f"{describe(type(own))} is a plain record and builds nothing; "
            "nest it in a Configurable as its Config"
        )
    return own._target(own, **extra)


def _unset_below(own: ConfigBase) -> dict[str, None]:
    return {_path_of(own, keys): None for keys, value in walk(own) if value is REQUIRED}


def _path_of(node: ConfigBase, keys: Keys) -> str:
    return f"{node._path}.{dotted(keys)}" if node._path else dotted(keys)
