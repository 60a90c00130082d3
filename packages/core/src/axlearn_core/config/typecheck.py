"""Checks a value against an annotation, element by element, and says what does not fit."""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union

from axlearn_core.config.required import REQUIRED
from axlearn_core.config.word import Word

_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.MutableSequence)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class Mismatch(Exception):
    """A value does not fit.

    `where` is the way into the containers, such as `[2]`; `reason` says more where more is known.
    """

    def __init__(self, value: object, annotation: object, where: str = "", reason: str = ""):
        super().__init__()
        self.value, self.annotation, self.where, self.reason = value, annotation, where, reason


def describe(annotation: object) -> str:
    """Writes an annotation as one would in source code."""
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(describe(option) for option in typing.get_args(annotation))
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def options(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of any other annotation, itself."""
    if typing.get_origin(annotation) is Annotated:
        return options(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(o for member in typing.get_args(annotation) for o in options(member))
    return (annotation,)


def member_annotation(annotation: Any, key: object) -> Any:
    """The declared type of a container's member; Any where none is declared."""
    for option in options(annotation):
        origin, args = typing.get_origin(option), typing.get_args(option)
        if origin in _MAPPINGS:
            return args[1]
        if origin is tuple and isinstance(key, int) and Ellipsis not in args:
            return args[key] if key < len(args) else Any
        if origin in _SEQUENCES:
            return args[0]
    return Any


def fit(value: Any, annotation: Any) -> Any:
    """Returns `value` as the annotation wants it.

    The only conversions are int to float, between list and tuple (set and frozenset), and from
    text to a `Word`, so that what a file or the command line can say fits each of them.

    Raises:
        Mismatch: if it does not fit.
    """
    if annotation is Any or value is REQUIRED or isinstance(annotation, TypeVar):
        return value
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return fit(value, args[0])
    if origin in (Union, types.UnionType):
        return _fit_union(value, annotation, args)
    if origin is Literal:
        if any(value == option and type(value) is type(option) for option in args):
            return value
        raise Mismatch(value, annotation)
    if annotation is None or annotation is type(None):
        return _require(value is None, value, None)
    if origin is type:
        return _fit_class(value, annotation, args)
    if origin is not None:
        return _fit_container(value, annotation, origin, args)
    return _fit_plain(value, annotation)


def _require(condition: bool, value: Any, annotation: Any) -> Any:
    if not condition:
        raise Mismatch(value, annotation)
    return value


def _fit_union(value: Any, annotation: Any, options: tuple[Any, ...]) -> Any:
    # An exact member wins over a conversion: 1 stays an int in `float | int`.
    for option in options:
        if isinstance(option, type) and type(value) is option:
            return value
    inner: Mismatch | None = None
    for option in options:
        try:
            return fit(value, option)
        except Mismatch as mismatch:
            if mismatch.where or mismatch.reason:
                inner = mismatch
    raise inner or Mismatch(value, annotation)


def _fit_class(value: Any, annotation: Any, args: tuple[Any, ...]) -> Any:
    bound = args[0]
    if not isinstance(bound, type):
        return _require(isinstance(value, type), value, annotation)
    return _require(isinstance(value, type) and issubclass(value, bound), value, annotation)


def _fit_plain(value: Any, annotation: Any) -> Any:
    if annotation is float and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise Mismatch(value, annotation, reason=str(error)) from error
    if annotation is int and isinstance(value, bool):
        raise Mismatch(value, annotation)
    if annotation is list and isinstance(value, tuple):
        return list(value)
    if annotation is tuple and isinstance(value, list):
        return tuple(value)
    if annotation is dict and isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str) and isinstance(annotation, type) and issubclass(annotation, Word):
        return _fit_word(value, annotation)
    if annotation in (typing.Callable, collections.abc.Callable):
        return _require(callable(value), value, annotation)
    try:
        return _require(isinstance(value, annotation), value, annotation)
    except TypeError:  # a protocol or a special form that has no runtime check
        return value


def _fit_word(text: str, annotation: type[Word]) -> Word:
    try:
        return annotation.parse(text)
    except ValueError as error:
        raise Mismatch(text, annotation, reason=str(error)) from error


def _fit_container(value: Any, annotation: Any, origin: Any, args: tuple[Any, ...]) -> Any:
    if origin is collections.abc.Callable:
        return _require(callable(value), value, annotation)
    if origin is tuple:
        return _fit_tuple(value, annotation, args)
    if origin in _SEQUENCES:
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise Mismatch(value, annotation)
        items = [_fit_at(f"[{i}]", item, args[0]) for i, item in enumerate(value)]
        return tuple(items) if origin is collections.abc.Sequence else items
    if origin in (set, frozenset):
        if not isinstance(value, (set, frozenset)):
            raise Mismatch(value, annotation)
        return origin(_fit_at(f"[{item!r}]", item, args[0]) for item in value)
    if origin in _MAPPINGS:
        if not isinstance(value, Mapping):
            raise Mismatch(value, annotation)
        return {
            _fit_at(f"[{k!r}]", k, args[0]): _fit_at(f"[{k!r}]", v, args[1])
            for k, v in value.items()
        }
    return _fit_plain(value, origin)


def _fit_tuple(value: Any, annotation: Any, args: tuple[Any, ...]) -> Any:
    if not isinstance(value, (list, tuple)):
        raise Mismatch(value, annotation)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_fit_at(f"[{i}]", item, args[0]) for i, item in enumerate(value))
    if len(value) != len(args):
        raise Mismatch(value, annotation)
    return tuple(
        _fit_at(f"[{i}]", item, arg) for i, (item, arg) in enumerate(zip(value, args, strict=True))
    )


def _fit_at(where: str, value: Any, annotation: Any) -> Any:
    try:
        return fit(value, annotation)
    except Mismatch as mismatch:
        inner = where + mismatch.where
        raise Mismatch(mismatch.value, mismatch.annotation, inner, mismatch.reason) from None
