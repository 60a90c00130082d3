"""`layer_types`: which attention each layer has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from axlearn_core.config import ConfigBase
from axlearn_huggingface.configs.fields import ConfigJson
from axlearn_huggingface.weights import WeightsError


@dataclass(frozen=True)
class LayerTypes:
    """A pattern that repeats, since that is what the family has here."""

    pattern: tuple[str, ...] = ("full_attention",)

    @property
    def names(self) -> set[str]:
        return {"layer_types"}

    def read(self, config: ConfigJson) -> dict[str, Any]:
        types = config.get("layer_types")
        if types and types != list(self.pattern * len(types))[: len(types)]:
            known = ", ".join(self.pattern)
            raise WeightsError(f"layer_types={types} must repeat {known} for our layers")
        return {}

    def write(self, model: ConfigBase) -> dict[str, Any]:
        return {}
