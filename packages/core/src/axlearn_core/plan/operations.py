"""The matrix products of a compiled program, in floating-point operations."""

from __future__ import annotations

import re
from math import prod
from typing import Final

import numpy as np

from axlearn_core.plan.hlo import Computation, Instruction

_PRODUCTS: Final = ("dot", "ragged-dot", "scaled-dot")


def matrix_flops(computation: Computation, line: Instruction) -> float:
    """Returns what a matrix product or a convolution computes, 0 for all other instructions.

    A multiplication and an addition count as two. Peak rates are of matrix products, and all else
    is bound by memory, whose traffic is counted on its own.
    """
    if line.opcode in _PRODUCTS:
        return _product(computation, line)
    if line.opcode == "convolution":
        return _convolution(computation, line)
    return _library_product(computation, line) if line.opcode == "custom-call" else 0.0


def is_opaque_kernel(line: Instruction) -> bool:
    """Returns whether this is a kernel of which the program does not say what it computes."""
    return line.opcode == "custom-call" and bool(_KERNELS.search(line.attributes))


_KERNELS: Final = re.compile(
    r'custom_call_target="(tpu_custom_call|__cudnn\$|__gpu\$|mosaic|triton)'
)
_CONTRACTED: Final = re.compile(r'"lhs_contracting_dimensions":\s*\[([^\]]*)\]')


def _library_product(computation: Computation, line: Instruction) -> float:
    """Returns what a product that cuBLAS makes computes."""
    contracting = _CONTRACTED.search(line.attributes)
    if contracting is None or 'custom_call_target="__cublas$' not in line.attributes:
        return 0.0
    left = computation.operand_shapes(line)[0]
    contracted = prod(left.dims[int(axis)] for axis in re.findall(r"\d+", contracting[1]))
    return 2.0 * line.shapes[0].elements * contracted


def _product(computation: Computation, line: Instruction) -> float:
    left = computation.operand_shapes(line)[0]
    contracted = prod(left.dims[axis] for axis in line.numbers("lhs_contracting_dims"))
    return 2.0 * line.shapes[0].elements * contracted


def _convolution(computation: Computation, line: Instruction) -> float:
    """Returns 2 x batch x features in x features out x pairs of positions that meet data.

    TPU programs write batched products as convolutions with padded and dilated windows, in which
    most pairs meet nothing.
    """
    data, kernel = computation.operand_shapes(line)[:2]
    output = line.shapes[0]
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", line.attributes)
    assert labels, line.attributes
    of_data, of_kernel, of_output = labels.groups()
    pairs = 1
    for axis, label in enumerate(sorted(filter(str.isdigit, of_data))):
        pairs *= _meetings(
            data.dims[of_data.index(label)],
            kernel.dims[of_kernel.index(label)],
            output.dims[of_output.index(label)],
            _window(line, axis),
        )
    batch, features_out = (output.dims[of_output.index(label)] for label in "bf")
    return 2.0 * batch * kernel.dims[of_kernel.index("i")] * features_out * pairs


def _window(line: Instruction, axis: int) -> dict[str, str]:
    """Returns one axis of `window={size=3x3 pad=0_1x0_1}`."""
    found = re.search(r"window={([^}]*)}", line.attributes)
    fields = (field.split("=") for field in found[1].split()) if found else ()
    return {name: values.split("x")[axis] for name, values in fields}


def _meetings(data: int, kernel: int, output: int, window: dict[str, str]) -> int:
    stride, dilation = int(window.get("stride", 1)), int(window.get("lhs_dilate", 1))
    padding = int(window.get("pad", "0_0").split("_")[0])
    steps = np.arange(kernel)[None] * int(window.get("rhs_dilate", 1))
    at = np.arange(output)[:, None] * stride + steps - padding
    return int(((at >= 0) & (at <= (data - 1) * dilation) & (at % dilation == 0)).sum())
