"""The products and sums of a traced step, whose dimensions have logical axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from axlearn_core.plan.labels import Array, Dim, Dims, matched


class Operand(NamedTuple):
    """What a product reads."""

    array: Array
    parameter: str | None  # its path, if it is one (or a slice, or a cast, of one)


@dataclass(frozen=True)
class Product:
    """A sum of products, or a plain sum (without `flops`), over some dimensions.

    Attributes:
        flops: of all devices together.
        operands: what is read.
        out: what is made of it.
        summed: the dimensions that are summed over.
    """

    flops: float
    operands: tuple[Operand, ...]
    out: Array
    summed: Dims


@dataclass(frozen=True)
class Lookup:
    """Rows read from a table by their numbers, or the gradient of that, which adds to them."""

    table: Operand
    rows: Array
    numbers: Dims  # the table's dimension in which rows are counted


@dataclass(frozen=True)
class KeysOrValues:
    """Keys or values of an attention layer, which context parallelism passes around."""

    array: Array


Event = Product | Lookup | KeysOrValues
"""What a device needs others for, or computes."""


def dot(operands: Sequence[Operand], numbers: Any, shape: Sequence[int], itemsize: int) -> Product:
    """Returns the product that dot_general computes.

    Args:
        operands: left and right.
        numbers: ((left, right summed), (left, right batch)) dimensions, as dot_general has them.
        shape: of the result.
        itemsize: of its elements.
    """
    left, right = (operand.array.dims for operand in operands)
    (left_sum, right_sum), (left_batch, right_batch) = numbers
    summed = _paired([left[i] for i in left_sum], [right[i] for i in right_sum])
    batch = _paired([left[i] for i in left_batch], [right[i] for i in right_batch])
    free = [dim for i, dim in enumerate(left) if i not in (*left_sum, *left_batch)]
    free += [dim for i, dim in enumerate(right) if i not in (*right_sum, *right_batch)]
    dims = (*batch, *free)
    if tuple(dim.size for dim in dims) != tuple(shape):
        dims = matched(shape, dims)
    flops = 2.0 * math.prod(shape) * math.prod(dim.size for dim in summed)
    # Both sides call a dimension that they share by one name.
    renamed = (
        _renamed(operands[0], [*left_sum, *left_batch], [*summed, *batch]),
        _renamed(operands[1], [*right_sum, *right_batch], [*summed, *batch]),
    )
    return Product(flops, renamed, Array(dims, itemsize), summed)


def ragged_dot(
    operands: Sequence[Operand], numbers: Any, groups: int, shape: Sequence[int], itemsize: int
) -> Product:
    """Returns the product of rows with the weights of their groups, or the weights' gradient."""
    product = dot(operands, numbers, shape, itemsize)
    by_group = len(shape) == 3 and shape[0] == groups  # a gradient: each row is in one group's sum
    flops = product.flops / groups if by_group else product.flops
    return Product(flops, product.operands, product.out, product.summed)


def convolution(
    operands: Sequence[Operand], features: int, shape: Sequence[int], itemsize: int
) -> Product:
    """Args: features: the kernel's dimension of outputs; every other one is summed over."""
    image, kernel = (operand.array for operand in operands)
    summed = math.prod(kernel.shape) // kernel.shape[features]
    out = Array(matched(shape, image.dims), itemsize)
    return Product(2.0 * math.prod(shape) * summed, tuple(operands), out, ())


def _paired(left: Sequence[Dim], right: Sequence[Dim]) -> Dims:
    return tuple(a if a.names else b for a, b in zip(left, right, strict=True))


def _renamed(operand: Operand, places: Sequence[int], shared: Sequence[Dim]) -> Operand:
    changed = dict(zip(places, shared, strict=True))
    dims = tuple(changed.get(i, dim) for i, dim in enumerate(operand.array.dims))
    return Operand(Array(dims, operand.array.itemsize), operand.parameter)
