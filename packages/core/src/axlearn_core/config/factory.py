"""Configurable classes: what is built from a config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar, Union, cast

from axlearn_core.config.errors import ConfigError
from axlearn_core.config.record import ConfigBase

T = TypeVar("T")
C_co = TypeVar("C_co", covariant=True, bound=ConfigBase)

ConfigOr = Union[T, ConfigBase]  # noqa: UP007 - a subscriptable alias
"""A value, or a config that builds one."""


def maybe_instantiate(value: ConfigOr[T], **extra: Any) -> T:
    """Builds `value` if it is a config, and returns it as it is otherwise."""
    if isinstance(value, ConfigBase):
        return cast(T, value.instantiate(**extra))
    return value


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
