"""Fields of `config.json` and the arguments of our families that mean the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from axlearn_core.config import ConfigBase
from axlearn_huggingface.weights import WeightsError

ConfigJson = Mapping[str, Any]
"""What a `config.json` holds."""

Place = str | Callable[[Any], Any]
"""Where a value stands in a model's config: a path, or a function of the config."""

_MISSING: Any = object()


class Part(Protocol):
    """Some fields of theirs, and the arguments of ours that they determine."""

    @property
    def names(self) -> set[str]:
        """The fields of theirs that it reads."""
        ...

    def read(self, config: ConfigJson) -> dict[str, Any]:
        """Returns our arguments.

        Raises:
            WeightsError: for what our layers do not compute, with the field's name.
        """
        ...

    def write(self, model: ConfigBase) -> dict[str, Any]:
        """Returns their fields.

        Args:
            model: a config whose stacks are flat lists of layers.

        Raises:
            LookupError, AttributeError: if it is the config of another kind of model.
        """
        ...


@dataclass(frozen=True)
class Field:
    """A field that is an argument.

    Attributes:
        theirs, ours: names of the field and of the argument.
        at: where the model's config holds it.
        default: what transformers takes where a file lacks the field; without one it must be there.
        like: the field whose value is taken where this one is null or missing.
        alias: another name that it has in other versions.
        values: ours for each of theirs, where they are not the same.
    """

    theirs: str
    ours: str
    at: Place
    default: Any = _MISSING
    like: str | None = None
    alias: str | None = None
    values: Mapping[Any, Any] | None = None

    @property
    def names(self) -> set[str]:
        return {self.theirs, self.alias or self.theirs}

    def read(self, config: ConfigJson) -> dict[str, Any]:
        value = config.get(self.theirs, config.get(self.alias or self.theirs, self.default))
        if self.like is not None and value in (None, _MISSING):
            value = config.get(self.like, _MISSING)
        if value is _MISSING:
            raise WeightsError(f"config.json lacks {self.theirs}")
        if self.values is not None:
            if value not in self.values:
                known = ", ".join(map(repr, self.values))
                raise WeightsError(f"{self.theirs}={value!r} is none that our layers know: {known}")
            value = self.values[value]
        return {self.ours: value}

    def write(self, model: ConfigBase) -> dict[str, Any]:
        value = value_at(model, self.at)
        if self.values is not None:
            value = {ours: theirs for theirs, ours in self.values.items()}[value]
        return dict.fromkeys(self.names, value)


@dataclass(frozen=True)
class Count:
    """How many there are of something that they list by name, such as classes."""

    theirs: str
    ours: str
    at: Place
    listed: str
    default: int

    @property
    def names(self) -> set[str]:
        return {self.theirs, self.listed}

    def read(self, config: ConfigJson) -> dict[str, Any]:
        listed = config.get(self.listed)
        return {self.ours: len(listed) if listed else config.get(self.theirs, self.default)}

    def write(self, model: ConfigBase) -> dict[str, Any]:
        count = value_at(model, self.at)
        return {self.listed: {str(number): f"LABEL_{number}" for number in range(count)}}


@dataclass(frozen=True)
class Width:
    """A field that follows from others, and must, since our layers know no other value.

    Attributes:
        theirs: its name.
        follows: returns its value.
        at: where the model's config holds it; None does not write it.
    """

    theirs: str
    follows: Callable[[ConfigJson], Any]
    at: Place | None = None

    @property
    def names(self) -> set[str]:
        return {self.theirs}

    def read(self, config: ConfigJson) -> dict[str, Any]:
        value, expected = config.get(self.theirs), self.follows(config)
        if value is not None and value != expected:
            raise WeightsError(f"{self.theirs}={value!r} must be {expected!r} for our layers")
        return {}

    def write(self, model: ConfigBase) -> dict[str, Any]:
        return {} if self.at is None else {self.theirs: value_at(model, self.at)}


def value_at(model: Any, place: Place) -> Any:
    """Returns the value at a place.

    Raises:
        LookupError, AttributeError: if there is none.
    """
    if callable(place):
        return place(model)
    value = model
    for key in place.split("."):
        value = value[int(key)] if key.lstrip("-").isdigit() else getattr(value, key)
    return value


def window_of(mask: Any) -> int | None:
    """Returns how many tokens a query sees, itself included; None if all before it."""
    found = re.search(r"window\((\d+)\)", str(mask))
    return None if found is None else int(found[1])


def head_width(config: ConfigJson) -> int:
    """Returns the width of a head where nothing says otherwise."""
    return int(config["hidden_size"]) // int(config["num_attention_heads"])
