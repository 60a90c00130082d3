"""What a parameter is before it exists: its shape, its axes' names, how it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp


class Initializer(Protocol):
    """Creates a parameter from its specification."""

    def __call__(self, key: jax.Array, spec: ParameterSpec) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """A parameter's declaration.

    Attributes:
        shape: its dimensions.
        axes: one logical axis name (or None) per dimension, such as ("embed", "mlp"). Sharding
            rules map them to mesh axes.
        initializer: creates the first value.
        dtype: of the stored parameter.
        fan_in_axes: the dimensions that a use of the parameter sums over.
        weight_decay_scale: multiplies the optimizer's weight decay; 0 for gains and biases.
        trainable: whether gradients are taken; others change by `add_state_update` only.
        keeps_precision: whether a model that computes in a narrower dtype, such as bfloat16, reads
            it as it is stored all the same.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    initializer: Initializer
    dtype: str = "float32"
    fan_in_axes: tuple[int, ...] = (0,)
    weight_decay_scale: float = 1.0
    trainable: bool = True
    keeps_precision: bool = False

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.axes):
            raise ValueError(
                f"a parameter of shape {self.shape} needs {len(self.shape)} logical axes, "
                f"got {self.axes}; use None for a dimension without a name"
            )

    def struct(self) -> jax.ShapeDtypeStruct:
        """Returns the parameter's shape and dtype as JAX wants them."""
        return jax.ShapeDtypeStruct(self.shape, jnp.dtype(self.dtype))

    def stacked(self, count: int, axis: str) -> ParameterSpec:
        """Returns the specification of `count` such parameters along a new first axis."""
        return dataclasses.replace(
            self,
            shape=(count, *self.shape),
            axes=(axis, *self.axes),
            fan_in_axes=tuple(i + 1 for i in self.fan_in_axes),
        )


ParameterSpecs = dict[str, Any]
"""Nested by module name, with a ParameterSpec at each leaf."""


def map_specs(function: Callable[[ParameterSpec], Any], specs: Mapping[str, Any]) -> dict[str, Any]:
    """Applies a function to every ParameterSpec of a nested dict."""
    return {
        name: function(value) if isinstance(value, ParameterSpec) else map_specs(function, value)
        for name, value in specs.items()
    }


def flatten_paths(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts to `{"decoder/norm/scale": leaf}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}/{name}" if prefix else name
        flat.update(flatten_paths(value, path) if isinstance(value, Mapping) else {path: value})
    return flat


def nest_paths(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nests what has paths; the inverse of `flatten_paths`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *above, name = path.split("/")
        node = tree
        for each in above:
            node = node.setdefault(each, {})
        node[name] = value
    return tree


def parameter_count(specs: Mapping[str, Any]) -> int:
    """Counts the numbers in all parameters."""
    return sum(_size(spec.shape) for spec in flatten_paths(specs).values())


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for dim in shape:
        size *= dim
    return size
