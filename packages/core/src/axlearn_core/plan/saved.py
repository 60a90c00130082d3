"""Plans as JSON, to keep and to compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from axlearn_core.errors import UserError
from axlearn_core.plan.record import Memory, PlacedArray, Plan, Range, Times, Traffic

_FORMAT: Final = 2  # 1 had activations within temporary memory


def to_json(plan: Plan) -> dict[str, Any]:
    """Returns a plan as JSON values: its fields, and what follows from them."""
    tokens = plan.tokens_per_day
    return {
        "format": _FORMAT,
        **asdict(plan),
        "fits": plan.memory.fits,
        "peak_bytes": plan.memory.peak,
        "binding": plan.times.binding,
        "tokens_per_day": asdict(tokens) if tokens else None,
    }


def from_json(text: str, source: str) -> Plan:
    """Reads what `to_json` gave.

    Args:
        text: JSON.
        source: where it is from, for errors.

    Raises:
        UserError: if it is no plan.
    """
    try:
        values = json.loads(text)
        if values["format"] != _FORMAT:
            raise UserError(f"{source} has format {values['format']}, and this reads {_FORMAT}")
        return _plan(values)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{source} is no plan ({type(error).__name__}: {error}). Write one with "
            "axl plan EXPERIMENT --hardware MACHINE --save plan.json"
        ) from error


def _plan(values: Mapping[str, Any]) -> Plan:
    fields = {name: values[name] for name in Plan.__dataclass_fields__}
    return Plan(
        **fields
        | {
            "overrides": tuple(values["overrides"]),
            "notes": tuple(values["notes"]),
            "memory": Memory(**values["memory"]),
            "times": Times(**values["times"]),
            "traffic": tuple(
                Traffic(**each | {"axes": tuple(each["axes"])}) for each in values["traffic"]
            ),
            "largest": tuple(
                PlacedArray(**each | {"shape": tuple(each["shape"])}) for each in values["largest"]
            ),
            "step_seconds": _range(values["step_seconds"]),
            "mfu": _range(values["mfu"]),
        }
    )


def _range(value: Mapping[str, float] | None) -> Range | None:
    return Range(**value) if value else None
