"""Embeddings with a scale, for families that have none."""

from __future__ import annotations

from typing import Any

from axlearn_core.module.context import Tree
from axlearn_core.training.model import Model
from axlearn_huggingface.weights.axes import Array
from axlearn_layers import CausalLM, Embedding


class ScaledTable:
    """An array that is multiplied when a part of it is read."""

    def __init__(self, array: Any, scale: float):
        self._array, self._scale = array, scale

    def __getitem__(self, key: tuple[Any, ...]) -> Array:
        part: Array = self._array[key]
        return (part * self._scale).astype(part.dtype)


def scale_of(model: Model.Config) -> float | None:
    """Returns by what a model multiplies its embeddings, if it does."""
    return model.embedding.scale if isinstance(model, CausalLM.Config) else None


def with_scaled_table(model: Model.Config, parameters: Tree) -> tuple[Model.Config, Tree]:
    """Returns the same function without a scale: it goes into the table.

    A head that is the table, which has no scale, becomes one of its own.
    """
    scale = scale_of(model)
    assert isinstance(model, CausalLM.Config) and scale is not None
    table = parameters["embedding"]["weight"]
    changed = {**parameters, "embedding": {"weight": ScaledTable(table, scale)}}
    plain = model.clone()
    plain.embedding.scale = None
    if plain.head is None:
        plain.head = Embedding.default_config()
        changed["head"] = {"weight": table}
    return plain, changed
