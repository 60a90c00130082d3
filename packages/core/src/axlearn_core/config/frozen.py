"""Containers of a built object's config: what they were, but read-only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from axlearn_core.config.errors import FrozenConfigError

T = TypeVar("T")


def _without(*methods: str) -> Callable[[type[T]], type[T]]:
    """Makes the given methods of a class refuse."""

    def refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise FrozenConfigError(
            f"this {type(self).__mro__[1].__name__} belongs to the config of an object that is "
            "already built and cannot change; edit a copy: cfg.clone()"
        )

    def decorate(cls: type[T]) -> type[T]:
        for name in methods:
            setattr(cls, name, refuse)
        return cls

    return decorate


@_without("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse")
@_without("__setitem__", "__delitem__", "__iadd__", "__imul__")
class FrozenList(list[Any]):
    """A list that cannot change."""

    def __reduce__(self) -> tuple[Any, ...]:  # unpickling would append
        return type(self), (list(self),)


@_without("update", "setdefault", "pop", "popitem", "clear")
@_without("__setitem__", "__delitem__", "__ior__")
class FrozenDict(dict[Any, Any]):
    """A dict that cannot change."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


@_without("add", "update", "discard", "remove", "pop", "clear", "intersection_update")
@_without("difference_update", "symmetric_difference_update")
@_without("__iand__", "__ior__", "__isub__", "__ixor__")
class FrozenSet(set[Any]):
    """A set that cannot change (and equals the set that it was)."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (set(self),)
