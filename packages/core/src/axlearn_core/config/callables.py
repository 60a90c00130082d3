"""`config_for`: config nodes for functions and classes that know nothing of configs."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, Union, cast

from axlearn_core.config.errors import ConfigError
from axlearn_core.config.factory import Configurable, maybe_instantiate
from axlearn_core.config.record import ConfigBase, Field
from axlearn_core.config.required import REQUIRED
from axlearn_core.config.tree import holds_config

R = TypeVar("R")


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


def call(config: CallableConfig[Any], extra: Mapping[str, Any]) -> Any:
    """Calls the target of a node with its fields and `extra`."""
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
