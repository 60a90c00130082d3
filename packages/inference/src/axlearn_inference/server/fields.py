"""Reads JSON objects strictly: a field that nobody asked for is an error."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NoReturn, TypeVar

from axlearn_core.config import near_names
from axlearn_inference.server.errors import ApiError

D = TypeVar("D")


class Fields:
    """Gives out the fields of a JSON object one by one. Null is as good as absent.

    Args:
        value: what should be an object.
        path: where it is in the request, for messages.

    Raises:
        ApiError: here and in every method, for what does not fit; it names the field.
    """

    def __init__(self, value: object, path: str = ""):
        self._path = path
        if not isinstance(value, dict):
            raise ApiError(
                f"{path or 'the body'} must be a JSON object, got {_shown(value)}",
                param=path or None,
            )
        self._left: dict[str, Any] = {k: v for k, v in value.items() if v is not None}
        self._asked: set[str] = set()

    def name(self, field: str) -> str:
        """Returns the path of a field."""
        return f"{self._path}.{field}" if self._path else field

    def refuse(self, field: str, problem: str) -> NoReturn:
        """Raises an error about a field."""
        raise ApiError(f"{self.name(field)} {problem}", param=self.name(field))

    def raw(self, field: str) -> Any:
        """Returns any value; None if there is none."""
        self._asked.add(field)
        return self._left.pop(field, None)

    def integer(
        self, field: str, default: D, *, low: int | None = None, high: int | None = None
    ) -> int | D:
        """Returns a whole number, from `low` to `high`."""
        value = self.raw(field)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(field, f"must be a whole number, got {_shown(value)}")
        self._check_range(field, value, low, high)
        return value

    def number(
        self, field: str, default: D, *, low: float | None = None, high: float | None = None
    ) -> float | D:
        """Returns a number, from `low` to `high`."""
        value = self.raw(field)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            self.refuse(field, f"must be a number, got {_shown(value)}")
        self._check_range(field, value, low, high)
        return float(value)

    def flag(self, field: str, default: bool = False) -> bool:
        """Returns true or false."""
        value = self.raw(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(field, f"must be true or false, got {_shown(value)}")
        return value

    def text(self, field: str, default: D, *, among: Collection[str] = ()) -> str | D:
        """Returns a string, one of `among` if that says any."""
        value = self.raw(field)
        if value is None:
            return default
        if not isinstance(value, str):
            self.refuse(field, f"must be a string, got {_shown(value)}")
        if among and value not in among:
            self.refuse(field, f"must be one of {', '.join(among)}; got {value!r}")
        return value

    def texts(self, field: str, *, most: int) -> tuple[str, ...]:
        """Returns strings: a list of them, or one alone."""
        value = self.raw(field)
        found = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            self.refuse(field, f"must be a string or a list of strings, got {_shown(value)}")
        if len(found) > most:
            self.refuse(field, f"has {len(found)} strings; at most {most} are taken")
        return tuple(found)

    def inner(self, field: str) -> Fields | None:
        """Returns the fields of an object."""
        value = self.raw(field)
        return None if value is None else Fields(value, self.name(field))

    def objects(self, field: str) -> Iterator[Fields]:
        """Returns the fields of each object of a list; without the list, none."""
        value = self.raw(field)
        if not isinstance(value, list | None):
            self.refuse(field, f"must be a list, got {_shown(value)}")
        for index, each in enumerate(value or ()):
            yield Fields(each, f"{self.name(field)}[{index}]")

    def only(self, field: str, *values: object, instead: str) -> None:
        """Refuses every value but those that change nothing."""
        value = self.raw(field)
        if value is not None and value not in values:
            self.refuse(field, f"is not supported: {instead}")

    def ignore(self, *fields: str) -> None:
        """Takes fields that are for the client's own records."""
        for field in fields:
            self.raw(field)

    def end(self) -> None:
        """Refuses what is left."""
        for field in self._left:
            near = near_names(field, sorted(self._asked))
            self.refuse(field, f"is not known here.{near} Leave it out")

    def _check_range(self, field: str, value: float, low: float | None, high: float | None) -> None:
        if (low is not None and value < low) or (high is not None and value > high):
            limits = [f"at least {low}"] * (low is not None)
            limits += [f"at most {high}"] * (high is not None)
            self.refuse(field, f"must be {' and '.join(limits)}, got {value}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
