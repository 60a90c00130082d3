"""Bounds of numbers that llguidance 1.9 gets wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_LITERAL = frozenset({"enum", "const", "default", "examples"})
_SHARE = 1e-6  # of an interval, which is lost at its end


def within_exclusive_bounds(schema: Any) -> Any:
    """Returns a JSON schema without exclusive bounds that llguidance takes for inclusive ones.

    Where an interval excludes a whole number and is shorter than 1, such as 0 < x <= 0.5, it allows
    that number. So the interval begins or ends a little (a millionth of it) further inside.
    """
    if isinstance(schema, list):
        return [within_exclusive_bounds(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _inside(key, value) for key, value in schema.items()} | _moved(schema)


def _inside(key: str, value: Any) -> Any:
    if key in _LITERAL:
        return value
    if key in _BY_NAME and isinstance(value, Mapping):
        return {name: within_exclusive_bounds(each) for name, each in value.items()}
    return within_exclusive_bounds(value)


def _moved(schema: Mapping[str, Any]) -> dict[str, float]:
    low = _number(schema, "exclusiveMinimum", -math.inf)
    high = _number(schema, "exclusiveMaximum", math.inf)
    length = min(high, _number(schema, "maximum", math.inf)) - max(
        low, _number(schema, "minimum", -math.inf)
    )
    if not 0 < length < 1:
        return {}
    bounds = {"exclusiveMinimum": (low, 1), "exclusiveMaximum": (high, -1)}
    return {
        key: bound + way * length * _SHARE
        for key, (bound, way) in bounds.items()
        if math.isfinite(bound) and bound == round(bound)
    }


def _number(schema: Mapping[str, Any], key: str, otherwise: float) -> float:
    value = schema.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
