"""Configurable classes, nodes for any callable, and the one way in which a tree is built."""

from __future__ import annotations

import contextvars
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, Union, cast

from axlearn_core.config.errors import BuildError, ConfigError, MissingFieldsError
from axlearn_core.config.record import ConfigBase, Field
from axlearn_core.config.required import REQUIRED
from axlearn_core.config.tree import Keys, dotted, holds_config, label_paths, walk
from axlearn_core.config.typecheck import describe

T = TypeVar("T")
R = TypeVar("R")
C_co = TypeVar("C_co", covariant=True, bound=ConfigBase)

ConfigOr = Union[T, ConfigBase]  # noqa: UP007 - a subscriptable alias
"""A value, or a config that builds one."""


class HasConfig(Protocol[C_co]):
    """A class with a nested Config; lets type checkers see which one."""

    @property
    def Config(self) -> type[C_co]: ...


class _DefaultConfig:
    def __get__(
        self, instance: object, owner: Callable[..., HasConfig[C_co]]
    ) -> Callable[[], C_co]:
        """Returns a function that makes a complete, editable config of the class."""
        return cast(Callable[[], C_co], cast(Any, owner).Config)


class Configurable:
    """A class that is built from its nested `Config`.

    A subclass extends its parent's record (`class Config(Parent.Config)`) or inherits it whole.
    `X.default_config()` gives an editable config; its `instantiate()` gives an X.
    """

    class Config(ConfigBase):
        """The fields of a configurable; subclasses extend it."""

    default_config: ClassVar[_DefaultConfig] = _DefaultConfig()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        parents = [base.Config for base in cls.__bases__ if issubclass(base, Configurable)]
        if "Config" not in vars(cls):
            names = {"__module__": cls.__module__, "__qualname__": f"{cls.__qualname__}.Config"}
            cls.Config = cast(Any, type("Config", tuple(parents), names))  # type: ignore[misc]
        own = cls.Config
        for parent in parents:
            if own is parent or "_target" in vars(own) or not issubclass(own, parent):
                raise ConfigError(
                    f"{cls.__qualname__}.Config must be a class of its own that extends "
                    f"{parent.__qualname__}; write `class Config({parent.__qualname__}):`"
                )
        own._target = cls

    def __init__(self, config: ConfigBase) -> None:
        self._config = config

    @property
    def config(self: HasConfig[C_co]) -> C_co:
        """This object's own config: editable while it is being built, read-only afterwards."""
        return cast(C_co, cast(Any, self)._config)


Configurable.Config._target = Configurable


class ConfigModifier(Configurable):
    """Maps a config to a config. What it returns is what counts."""

    def __call__(self, cfg: ConfigBase) -> ConfigBase:
        """Returns the config to use instead of `cfg`, which it may edit."""
        raise NotImplementedError(type(self))


# Nodes for any callable.


class CallableConfig(ConfigBase, Generic[R]):
    """The arguments of a function or class that knows nothing of configs."""

    def _accepts(self, name: str) -> bool:
        extra = not hasattr(ConfigBase, name) and _takes_any_keyword(_callable_of(self))
        return extra or name in self._fields

    def _fitted(self, name: str, value: Any) -> Any:
        # A config stands for what it builds, and nobody knows the type of that yet.
        return value if holds_config(value) else super()._fitted(name, value)

    def __reduce__(self) -> tuple[Any, ...]:  # its class was made at run time
        return config_for, (type(self)._target,), self.__dict__


def config_for(target: Callable[..., R], **fields: Any) -> CallableConfig[R]:
    """Makes a config node that calls `target` when it is built.

    Its fields are the parameters; `*args` is a field of that name, and where the function takes
    `**kwargs` any further name can be set. Arguments that are configs are built first.
    """
    if isinstance(target, type) and issubclass(target, Configurable):
        name = target.__qualname__
        raise ConfigError(f"{name} has a config of its own; write {name}.default_config()")
    return cast(CallableConfig[R], _callable_record(cast(Any, target))(**fields))


@functools.cache
def _callable_record(target: Callable[..., Any]) -> type[CallableConfig[Any]]:
    try:
        parameters = inspect.signature(target).parameters
    except (ValueError, TypeError):
        raise ConfigError(
            f"{target!r} does not tell its parameters; wrap it in a function that does"
        ) from None
    hints = _hints(target)
    fields: dict[str, Any] = {}
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            fields[parameter.name] = ()
        elif parameter.kind is not parameter.VAR_KEYWORD:
            empty = parameter.default is parameter.empty
            fields[parameter.name] = REQUIRED if empty else parameter.default
    if hidden := [key for key in fields if hasattr(ConfigBase, key) or key.startswith("_")]:
        raise ConfigError(
            f"{target!r} has a parameter {hidden[0]!r}, which cannot be the name of a field; "
            "wrap it in a function that calls it something else"
        )
    name = getattr(target, "__qualname__", repr(target))
    body = {"__module__": getattr(target, "__module__", "?"), "_target": staticmethod(target)}
    record: Any = type(f"config_for({name})", (CallableConfig,), body)
    record._fields = {key: Field(key, value, record) for key, value in fields.items()}
    record._annotations = {
        key: tuple[Any, ...]
        if parameters[key].kind is inspect.Parameter.VAR_POSITIONAL
        else Union[hints.get(key, Any), ConfigBase]  # noqa: UP007
        for key in fields
    }
    # A default may contradict its own annotation (`rate: float = None`); the function decides.
    for key, default in fields.items():
        if default is None:
            record._annotations[key] = Union[record._annotations[key], None]  # noqa: UP007
    return cast(type[CallableConfig[Any]], record)


def _hints(target: Callable[..., Any]) -> Mapping[str, Any]:
    function = vars(target).get("__init__") if isinstance(target, type) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # names that exist only for type checkers
        return {}


def _callable_of(config: CallableConfig[R]) -> Callable[..., R]:
    return cast(Callable[..., R], type(config)._target)


@functools.cache
def _takes_any_keyword(target: Callable[..., Any]) -> bool:
    kinds = (parameter.kind for parameter in inspect.signature(target).parameters.values())
    return inspect.Parameter.VAR_KEYWORD in kinds


def _call(config: CallableConfig[Any], extra: Mapping[str, Any]) -> Any:
    values = {name: _built(value) for name, value in config.items()} | dict(extra)
    target = _callable_of(config)
    positional: list[Any] = []
    parameters = inspect.signature(target).parameters.values()
    variadic = any(p.kind is p.VAR_POSITIONAL and values.get(p.name) for p in parameters)
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional.extend(values.pop(parameter.name, ()))
        elif parameter.kind is parameter.POSITIONAL_ONLY or (
            variadic and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ):
            positional.append(values.pop(parameter.name))
    return target(*positional, **values)


def _built(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_built(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _built(item) for key, item in value.items()}
    return maybe_instantiate(value)


def maybe_instantiate(value: ConfigOr[T], **extra: Any) -> T:
    """Builds `value` if it is a config, and returns it as it is otherwise."""
    if isinstance(value, ConfigBase):
        return cast(T, value.instantiate(**extra))
    return value


# Building.


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
    except Exception as error:
        if noted.certain:
            noted.perhaps.update(_unset_below(own))
            return REQUIRED
        if isinstance(error, BuildError):
            raise
        path = own._path or describe(type(own)).removesuffix(".Config")
        raise BuildError(path, error) from error
    own.freeze()
    return built


def _construct(own: ConfigBase, extra: Mapping[str, Any]) -> Any:
    if isinstance(own, CallableConfig):
        return _call(own, extra)
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
