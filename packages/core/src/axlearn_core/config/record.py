"""The typed record that every config is.

A subclass declares fields by annotation, without a decorator::

    class Config(Layer.Config):
        input_dim: int = REQUIRED
        eps: float = 1e-6

Assignment copies the value and checks its type; reading returns the live value.
"""

from __future__ import annotations

import copy
import enum
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

from axlearn_core.config.errors import (
    ConfigError,
    FieldTypeError,
    FrozenConfigError,
    UnknownFieldError,
    near_names,
)
from axlearn_core.config.frozen import FrozenDict, FrozenList, FrozenSet
from axlearn_core.config.origin import DEFAULT, current_origin
from axlearn_core.config.required import REQUIRED
from axlearn_core.config.typecheck import Mismatch, describe, fit

_ATOMS = (str, bytes, int, float, complex, bool, type(None), type, enum.Enum, types.ModuleType)


class Field(NamedTuple):
    """A declared field: its name, its default, and the class whose body annotates it."""

    name: str
    default: Any
    owner: type


def copy_value(value: Any) -> Any:
    """Copies configs and containers; what cannot change (numbers, functions, ...) is shared."""
    if isinstance(value, ConfigBase):
        return value.clone()
    if isinstance(value, _ATOMS) or callable(value) or value is REQUIRED:
        return value
    if isinstance(value, Mapping):
        return {key: copy_value(item) for key, item in value.items()}
    if container := _EDITABLE.get(type(value)):
        return container(copy_value(item) for item in value)
    return copy.deepcopy(value)


_EDITABLE: dict[type, Callable[..., Any]] = {
    list: list,
    FrozenList: list,
    tuple: tuple,
    set: set,
    FrozenSet: set,
    frozenset: frozenset,
}
_READ_ONLY: dict[type, Callable[..., Any]] = {list: FrozenList, tuple: tuple, set: FrozenSet}


def freeze_value(value: Any) -> Any:
    """Freezes configs in place and returns containers in their read-only form."""
    if isinstance(value, ConfigBase):
        value.freeze()
    elif container := _READ_ONLY.get(type(value)):
        return container(freeze_value(item) for item in value)
    elif isinstance(value, dict):
        return FrozenDict({key: freeze_value(item) for key, item in value.items()})
    return value


@dataclass_transform(kw_only_default=True)
class ConfigBase:
    """A record of typed fields; see the module's docstring.

    Attributes that start with an underscore are bookkeeping and no fields.
    """

    _fields: ClassVar[dict[str, Field]] = {}
    _annotations: ClassVar[dict[str, Any] | None] = None
    _target: ClassVar[Callable[..., Any] | None] = None

    _origins: dict[str, str]
    _frozen: bool
    _path: str

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        fields: dict[str, Field] = {}
        for base in reversed(cls.__mro__[1:]):
            if issubclass(base, ConfigBase):
                fields.update(base._fields)
        declared = inspect.get_annotations(cls)
        body = vars(cls)
        for name in [*declared, *(n for n in body if n in fields and n not in declared)]:
            if name.startswith("_") or "ClassVar" in str(declared.get(name, "")):
                continue
            if hasattr(ConfigBase, name):
                raise ConfigError(
                    f"{cls.__qualname__}.{name} hides the method of that name that every config "
                    f"has; choose another field name, such as {name}_value"
                )
            owner = cls if name in declared else fields[name].owner
            fields[name] = Field(name, body.get(name, REQUIRED), owner)
        for name in fields:
            if name in body:
                delattr(cls, name)
        stray = [
            name
            for name, value in body.items()
            if not name.startswith("_") and not isinstance(value, _METHODS)
        ]
        if stray:
            raise ConfigError(
                f"{cls.__qualname__} sets {', '.join(stray)} without a type; "
                f"write `{stray[0]}: <type> = ...` so that assignments can be checked"
            )
        cls._fields, cls._annotations = fields, None

    def __init__(self, **fields: Any) -> None:
        object.__setattr__(self, "_origins", {})
        object.__setattr__(self, "_frozen", False)
        object.__setattr__(self, "_path", "")
        for field in self._fields.values():
            self.__dict__[field.name] = self._fitted(field.name, copy_value(field.default))
        self.set(**fields)

    # Editing.

    def set(self, **fields: Any) -> Self:
        """Sets the given fields in place and returns this config."""
        for name, value in fields.items():
            setattr(self, name, value)
        return self

    def clone(self, **fields: Any) -> Self:
        """Returns an independent, editable copy with the given fields set."""
        copied = object.__new__(type(self))
        for name, value in self.__dict__.items():
            if not name.startswith("_"):
                copied.__dict__[name] = copy_value(value)
        copied.__dict__.update(_origins=dict(self._origins), _frozen=False, _path=self._path)
        return copied.set(**fields)

    def freeze(self) -> Self:
        """Makes this config and everything below it read-only, after checking it once more."""
        if not self._frozen:
            self.check()
            for name, value in self.items():
                self.__dict__[name] = freeze_value(value)
            self._frozen = True
        return self

    def check(self) -> None:
        """Checks the types of all fields again: a list or dict may have changed in place."""
        for name, value in self.items():
            self.__dict__[name] = self._fitted(name, value)

    def instantiate(self, **extra: Any) -> Any:
        """Builds what this config describes, passing `extra` to its constructor.

        Raises:
            MissingFieldsError: listing every unset required field in the tree, with its path.
            BuildError: if a constructor fails; says the config path and the reason.
        """
        from axlearn_core.config.build import build

        return build(self, extra)

    # Reading.

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yields (name, value) of every field."""
        for name, value in list(self.__dict__.items()):
            if not name.startswith("_"):
                yield name, value

    def origin(self, name: str) -> str:
        """Says where a field was set: "default", "file:line", or the override's text."""
        self._check_known(name)
        return self._origins.get(name, DEFAULT)

    @classmethod
    def annotation(cls, name: str) -> Any:
        """Returns the declared type of a field, evaluated."""
        if cls._annotations is None:
            owners = {field.owner: _resolve(field.owner) for field in cls._fields.values()}
            cls._annotations = {f.name: owners[f.owner][f.name] for f in cls._fields.values()}
        return cls._annotations.get(name, Any)

    # The record's own mechanics.

    def _accepts(self, name: str) -> bool:
        return name in self._fields

    def _check_known(self, name: str) -> None:
        if not self._accepts(name):
            known = ", ".join(self._fields) or "none"
            raise UnknownFieldError(
                f"{describe(type(self))} has no field {name!r}."
                f"{near_names(name, self._fields)} Its fields: {known}."
            )

    def _fitted(self, name: str, value: Any) -> Any:
        try:
            return fit(value, self.annotation(name))
        except Mismatch as mismatch:
            where = f"{self._path}.{name}" if self._path else f"{describe(type(self))}.{name}"
            raise FieldTypeError(
                f"{where}{mismatch.where} must be {describe(mismatch.annotation)}, got "
                f"{_shorten(mismatch.value)} of type {describe(type(mismatch.value))}"
                f"{mismatch.reason and ': '}{mismatch.reason}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self._store(name, copy_value(value))

    def _store(self, name: str, value: Any) -> None:
        """Sets a field to a value that nobody else holds."""
        if self._frozen:
            raise FrozenConfigError(
                f"{describe(type(self))}.{name} belongs to an object that is already built and "
                f"cannot change; edit a copy: cfg.clone({name}=...)"
            )
        self._check_known(name)
        self.__dict__[name] = self._fitted(name, value)
        self._origins[name] = current_origin()

    def __getattr__(self, name: str) -> Any:
        # Reached only when the instance has no such attribute.
        if name.startswith("_"):
            raise AttributeError(name)
        self._check_known(name)
        raise AttributeError(name)

    def __delattr__(self, name: str) -> None:
        raise ConfigError(f"a config field cannot be deleted; set {name} to another value")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return isinstance(other, ConfigBase) and dict(self.items()) == dict(other.items())

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: object) -> Self:
        return self.clone()

    __copy__ = clone

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={_shorten(value)}" for name, value in self.items())
        return f"{describe(type(self))}({values})"


_METHODS = (types.FunctionType, classmethod, staticmethod, property, type)


def _resolve(owner: type) -> dict[str, Any]:
    try:
        return inspect.get_annotations(owner, eval_str=True)
    except NameError as error:
        raise ConfigError(
            f"the annotations of {owner.__qualname__} name {error.name!r}, which is unknown in "
            f"{owner.__module__}. Import it at run time (not under TYPE_CHECKING), or define the "
            "class at the top level of a module"
        ) from error


def _shorten(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
