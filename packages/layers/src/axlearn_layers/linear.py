"""Linear projections."""

from __future__ import annotations

from typing import Any, TypeVar

import jax

from axlearn_core.config import REQUIRED
from axlearn_core.module import BaseInitializer, FanIn, Layer, ParameterSpec, no_context, zeros
from axlearn_core.module.context import Tree
from axlearn_core.parallel import product_with_weight, weight_product

T = TypeVar("T")
Dims = int | tuple[int, ...]
Axes = str | tuple[str | None, ...] | None


class Projection(Layer):
    """Maps the last dimensions of its input to others. An adapter wraps one and is one.

    Either side may have several dimensions: (8, 64) is 8 heads of 64. One that computes x W + b
    declares `weight`, `bias` and `with_weight`, which adapters read and merge into.
    """

    class Config(Layer.Config):
        input_dim: Dims = REQUIRED
        output_dim: Dims = REQUIRED
        # Logical axes, one per dimension. Parents set them.
        input_axes: Axes = "embed"
        output_axes: Axes = "mlp"

    def forward(self, x: jax.Array) -> jax.Array:
        """[..., *input_dim] -> [..., *output_dim]."""
        raise NotImplementedError(type(self))

    def weight(self) -> jax.Array:
        """Returns W, [*input_dim, *output_dim].

        For what is computed with the weight itself, such as its norm or its product with another.
        """
        raise NotImplementedError(f"{type(self).__qualname__} does not say what its weight is")

    def bias(self) -> jax.Array | None:
        """Returns b, [*output_dim], or None if there is none."""
        raise NotImplementedError(f"{type(self).__qualname__} does not say what its bias is")

    @no_context
    def with_weight(self, state: Tree, weight: jax.Array) -> Tree:
        """Returns these parameters of the projection with another W; stacked ones, stacked."""
        raise NotImplementedError(f"{type(self).__qualname__} takes no other weight")


class Linear(Projection):
    """y = x W + b, where W has the shape [*input_dim, *output_dim] and b is optional.

    Computes in the dtype of x. Torch stores the transpose of W.
    """

    class Config(Projection.Config):
        bias: bool = False
        initializer: BaseInitializer.Config = FanIn.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        self._initializer = self.config.initializer.instantiate()

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        inputs, outputs = as_tuple(cfg.input_dim), as_tuple(cfg.output_dim)
        output_axes = as_tuple(cfg.output_axes)
        weight = ParameterSpec(
            shape=inputs + outputs,
            axes=as_tuple(cfg.input_axes) + output_axes,
            initializer=self._initializer,
            dtype=cfg.dtype,
            fan_in_axes=tuple(range(len(inputs))),
        )
        if not cfg.bias:
            return {"weight": weight}
        bias = ParameterSpec(outputs, output_axes, zeros, cfg.dtype, weight_decay_scale=0.0)
        return {"weight": weight, "bias": bias}

    def forward(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        axes = (*as_tuple(cfg.input_axes), *as_tuple(cfg.output_axes))
        weight = self.param("weight").astype(x.dtype)
        y = product_with_weight(self._product, x, weight, *axes)
        return y + self.param("bias").astype(x.dtype) if cfg.bias else y

    def _product(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        return weight_product(x, weight, len(as_tuple(self.config.input_dim)))

    def weight(self) -> jax.Array:
        return self.param("weight")

    def bias(self) -> jax.Array | None:
        return self.param("bias") if self.config.bias else None

    @no_context
    def with_weight(self, state: Tree, weight: jax.Array) -> Tree:
        return {**state, "weight": weight.astype(state["weight"].dtype)}


def as_tuple(value: T | tuple[T, ...]) -> tuple[T, ...]:
    """Returns dimensions, or axes, as a tuple, also a single one."""
    return value if isinstance(value, tuple) else (value,)
