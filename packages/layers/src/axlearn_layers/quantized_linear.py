"""Linear projections, and experts, that are multiplied in eight bits."""

from __future__ import annotations

from typing import Any, Literal

import jax

from axlearn_core.kernels import QuantizedFormat, quantized_matmul
from axlearn_layers.linear import Linear, as_tuple
from axlearn_layers.mixture import GatedExperts

# Forward, gradient. E5M2 has the range that gradients need (arXiv:2209.05433).
_FORMATS = {"float8": ("float8_e4m3fn", "float8_e5m2"), "int8": ("int8", "int8")}


class QuantizedLinear(Linear):
    """y = x W + b, of which x W and its gradients are products of FP8 or INT8 numbers.

    Parameters are those of `Linear`, and stay as they are stored: only what enters a product is
    rounded, to the nearest, with scales of that very product (`axlearn_core.kernels`). FP8 is E4M3
    forward and E5M2 for gradients (arXiv:2209.05433); INT8 is INT8 for both. To put it where a
    `Linear` is, with what that was told::

        replace(cfg.stack, Linear, QuantizedLinear.default_config().set(format="int8"))
    """

    class Config(Linear.Config):
        format: Literal["float8", "int8"] = "float8"
        scaling: Literal["channel", "tensor"] = (
            "channel"  # a scale per row and column, or per array
        )
        quantize_gradients: bool = True  # else the backward products are of the dtype of x
        kernel: str | None = None  # forces an implementation; None takes the best that is there

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        self._format = _format(self.config)

    def _product(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        return quantized_matmul(
            x,
            weight,
            self._format,
            contracted=len(as_tuple(self.config.input_dim)),
            implementation=self.config.kernel,
        )


class QuantizedGatedExperts(GatedExperts):
    """`GatedExperts` whose products, and their gradients, are of FP8 or INT8 numbers.

    Parameters are those of `GatedExperts`; rounding is as in `QuantizedLinear`. Rows of a dropless
    dispatch are multiplied in their own dtype after rounding: what that does to the loss is the
    same, and it is no faster (`axlearn_core.kernels.quantized_ragged_matmul`). A device scales the
    gradient of its experts' weights by the rows that it has.
    """

    class Config(GatedExperts.Config):
        format: Literal["float8", "int8"] = "float8"
        scaling: Literal["channel", "tensor"] = "channel"
        quantize_gradients: bool = True  # else the backward products are of the dtype of the rows

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        self._format = _format(self.config)


def _format(cfg: QuantizedLinear.Config | QuantizedGatedExperts.Config) -> QuantizedFormat:
    forward, gradient = _FORMATS[cfg.format]
    return QuantizedFormat(forward, gradient if cfg.quantize_gradients else None, cfg.scaling)
