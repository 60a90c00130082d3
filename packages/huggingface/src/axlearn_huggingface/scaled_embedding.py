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


def without_scale(model: Model.Config) -> Model.Config:
    """Returns the same model without a scale; a tied head, which has none, becomes one of its own.

    It is the same function of the parameters `with_scaled_table`.
    """
    assert isinstance(model, CausalLM.Config)
    plain = model.clone()
    plain.embedding.scale = None
    plain.head = plain.head or Embedding.default_config()
    return plain


def with_scaled_table(parameters: Tree, scale: float) -> Tree:
    """Returns the parameters with the scale in the table, and the table as a head if it was one."""
    table = parameters["embedding"]["weight"]
    scaled = {"embedding": {"weight": ScaledTable(table, scale)}}
    return {"head": {"weight": table}, **parameters, **scaled}
