"""Configurable classes, nodes for any callable, and the one way in which a tree is built."""

from __future__ import annotations

import contextvars
import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar, Union, cast

from axlearn_core.config.errors import BuildError, ConfigError, MissingFieldsError
from axlearn_core.config.record import ConfigBase, Field
from axlearn_core.config.required import REQUIRED
from axlearn_core.config.typecheck import describe

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
C_co = TypeVar("C_co", covariant=True, bound=ConfigBase)

ConfigOr = Union[T, ConfigBase]  # noqa: UP007 - a subscriptable alias
"""A value, or a config that builds one."""


class HasConfig(Protocol[C_co]):
    """A class with a nested Config; lets type checkers see which one."""

    @property
    def Config(self) -> type[C_co]: ...  # noqa: N802


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
        parent = next(base.Config for base in cls.__mro__[1:] if issubclass(base, Configurable))
        if "Config" not in vars(cls):
            names = {"__module__": cls.__module__, "__qualname__": f"{cls.__qualname__}.Config"}
            cls.Config = cast(Any, type("Config", (parent,), names))  # type: ignore[misc]
        elif not issubclass(cls.Config, parent):
            raise ConfigError(
                f"{cls.__qualname__}.Config must extend {parent.__qualname__}; "
                f"write `class Config({parent.__qualname__}):`"
            )
        cls.Config._target = cls

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
        return name in self._fields or _takes_any_keyword(_callable_of(self))


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
    except ValueError:
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

_unset: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("unset", default=None)


def build(config: ConfigBase, extra: Mapping[str, Any]) -> Any:
    """Builds one node; see `ConfigBase.instantiate`.

    A node that lacks required fields is noted and stands in its parent as REQUIRED, so that one
    error at the root can list everything that is unset. Parents that meanwhile trip over the
    stand-in are no news.
    """
    noted = _unset.get()
    if noted is not None:
        return _build_node(config, extra, noted)
    noted = []
    token = _unset.set(noted)
    try:
        config = config.clone()
        label_paths(config)
        built = _build_node(config, extra, noted)
    except Exception as error:
        if noted:
            raise MissingFieldsError(noted) from error
        raise
    finally:
        _unset.reset(token)
    if noted:
        raise MissingFieldsError(noted)
    return built


def _build_node(config: ConfigBase, extra: Mapping[str, Any], noted: list[str]) -> Any:
    own = config.clone()
    path = own._path or describe(type(own)).removesuffix(".Config")
    prefix = f"{own._path}." if own._path else ""
    unset = [
        f"{prefix}{name}"
        for name, value in own.items()
        if value is REQUIRED and name not in extra
    ]
    if unset:
        noted.extend(unset)
        return REQUIRED
    if own._target is None:
        raise ConfigError(
            f"{describe(type(own))} is a plain record and builds nothing; "
            "nest it in a Configurable as its Config"
        )
    try:
        if isinstance(own, CallableConfig):
            return _call(own, extra)
        built = own._target(own, **extra)
    except BuildError:
        raise
    except Exception as error:
        raise BuildError(path, error) from error
    own.freeze()
    return built


def label_paths(config: ConfigBase) -> None:
    """Tells every node of a tree its path, for errors."""
    for path, node in nodes(config):
        node._path = path


def nodes(value: Any, path: str = "") -> Iterator[tuple[str, ConfigBase]]:
    """Yields (path, node) of every config in a tree, parents first, in containers too."""
    if isinstance(value, ConfigBase):
        yield path, value
    for key, item in members(value):
        yield from nodes(item, f"{path}.{key}" if path else str(key))


def members(value: Any) -> Iterator[tuple[str | int, Any]]:
    """Yields (key, member) of a config, list, tuple or mapping; nothing for other values."""
    if isinstance(value, ConfigBase):
        yield from value.items()
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)
