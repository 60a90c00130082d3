"""What the axes of a tensor are made of: `(heads dim) embed`, `embed kv (group + 1 + 1) dim`.

The notation is that of einops, with einx's `+` for parts that lie one after the other: `(a b)` is
one axis of a * b entries, the last named varying fastest; `(a + b)` is one axis of a entries and
then b. Both nest. `1` is an axis without extent, and any other number an axis of that size.

A tensor can be cut at its `+` into pieces, each an array with one axis per name. They are views:
writing to the pieces writes to the tensor. So a conversion needs no inverse: cut both sides, and
copy in either direction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Product:
    """One axis made of several; of none, it has one entry."""

    factors: tuple[Node, ...]


@dataclass(frozen=True)
class Sum:
    """One axis made of others that lie one after the other."""

    terms: tuple[Node, ...]


Node = str | Product | Sum
Axes = tuple[Node, ...]


class Piece(NamedTuple):
    """A part of a tensor, an axis per name."""

    names: tuple[str, ...]
    array: Array

    def at(self, index: Mapping[str, int]) -> Piece:
        """Returns the part at an index of some of the axes."""
        key = tuple(index.get(name, slice(None)) for name in self.names)
        rest = tuple(name for name in self.names if name not in index)
        return Piece(rest, self.array[(*key, ...)])  # with the dots a view, also of one number

    def ordered(self, names: tuple[str, ...]) -> Piece:
        """Returns the same piece with its axes in another order."""
        return Piece(names, self.array.transpose([self.names.index(name) for name in names]))


class SizeError(ValueError):
    """A shape does not fit its axes."""


def parse_axes(text: str) -> Axes:
    """Reads what a pattern says of a tensor's axes.

    Raises:
        ValueError: if it is not in the notation above.
    """
    tokens = re.findall(r"\w+|\S", text)
    axes = _product(tokens)
    if tokens:
        raise ValueError(f"axes {text!r}: unexpected {tokens[0]!r}; write e.g. 'embed (heads dim)'")
    for names in piece_names(axes):
        if len(set(names)) < len(names):
            raise ValueError(f"axes {text!r}: a name stands twice in one piece, {' '.join(names)}")
    return axes


def piece_names(axes: Axes) -> list[tuple[str, ...]]:
    """Returns the names of each piece into which `cut` cuts a tensor, in its order."""
    for position, node in enumerate(axes):
        if not isinstance(node, str):
            options = node.terms if isinstance(node, Sum) else (node,)
            return [names for each in options for names in piece_names(_put(axes, position, each))]
    return [tuple(str(node) for node in axes)]


def infer_sizes(
    shapes: Iterable[tuple[Axes, tuple[int, ...]]], given: Mapping[str, int]
) -> dict[str, int]:
    """Returns the given sizes and those that follow from the shapes of all tensors together.

    Raises:
        SizeError: if a shape contradicts its axes or another shape.
    """
    equations = []
    for axes, shape in shapes:
        if len(axes) != len(shape):
            raise SizeError(f"{len(axes)} axes for shape {shape}")
        equations += list(zip(axes, shape, strict=True))
    sizes = dict(given)
    known = -1
    while len(sizes) > known:
        known = len(sizes)
        for node, size in equations:
            _solve(node, size, sizes)
    return sizes


def shape_of(axes: Axes, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Returns the shape of a tensor.

    Raises:
        SizeError: if a name has no size.
    """
    shape = [_size(node, sizes) for node in axes]
    if None in shape:
        names = {name for names in piece_names(axes) for name in names if not name.isdigit()}
        unknown = ", ".join(sorted(names - set(sizes)))
        raise SizeError(f"the size of {unknown} does not follow from the shapes of our parameters")
    return tuple(size for size in shape if size is not None)


def cut(array: Array, axes: Axes, sizes: Mapping[str, int]) -> list[Piece]:
    """Cuts a tensor into its pieces, which are views; of several `+`, the first is the slowest."""
    for position, node in enumerate(axes):
        shape = array.shape
        if isinstance(node, Product):
            factors = shape_of(node.factors, sizes)
            split = array.reshape(shape[:position] + factors + shape[position + 1 :])
            return cut(split, axes[:position] + node.factors + axes[position + 1 :], sizes)
        if isinstance(node, Sum):
            pieces, start = [], 0
            for term, size in zip(node.terms, shape_of(node.terms, sizes), strict=True):
                part = array[(*[slice(None)] * position, slice(start, start + size))]
                pieces += cut(part, (*axes[:position], term, *axes[position + 1 :]), sizes)
                start += size
            return pieces
    return [Piece(tuple(str(node) for node in axes), array)]


def _put(axes: Axes, position: int, node: Node) -> Axes:
    inner = node.factors if isinstance(node, Product) else (node,)
    return axes[:position] + inner + axes[position + 1 :]


def _size(node: Node, sizes: Mapping[str, int]) -> int | None:
    if isinstance(node, str):
        return int(node) if node.isdigit() else sizes.get(node)
    parts = node.factors if isinstance(node, Product) else node.terms
    known = [size for part in parts if (size := _size(part, sizes)) is not None]
    if len(known) < len(parts):
        return None
    return math.prod(known) if isinstance(node, Product) else sum(known)


def _solve(node: Node, size: int, sizes: dict[str, int]) -> None:
    """Adds the size of a name if it is the only unknown one."""
    found = _size(node, sizes)
    if found is not None:
        if found != size:
            raise SizeError(f"{format_axes((node,))} is {found}, not {size}")
    elif isinstance(node, str):
        sizes[node] = size
    else:
        parts = node.factors if isinstance(node, Product) else node.terms
        known = [found for part in parts if (found := _size(part, sizes)) is not None]
        unknown = [part for part in parts if _size(part, sizes) is None]
        if len(unknown) > 1:
            return
        rest = size - sum(known)
        if isinstance(node, Product):
            rest, remainder = divmod(size, math.prod(known))
            rest = rest if remainder == 0 else 0
        if rest < 1:
            raise SizeError(f"{format_axes((node,))} cannot be {size}, given {sizes}")
        _solve(unknown[0], rest, sizes)


def format_axes(axes: Axes) -> str:
    """Returns the text that `parse_axes` reads."""

    def text(node: Node) -> str:
        if isinstance(node, str):
            return node
        if isinstance(node, Product):
            return f"({' '.join(map(text, node.factors))})" if node.factors else "1"
        return f"({' + '.join(map(text, node.terms))})"

    return " ".join(map(text, axes))


def _product(tokens: list[str]) -> Axes:
    factors: list[Node] = []
    while tokens and tokens[0] not in (")", "+"):
        token = tokens.pop(0)
        if token == "(":
            factors.append(_sum(tokens))
        elif token == "1":
            factors.append(Product(()))
        elif re.fullmatch(r"\w+", token):
            factors.append(token)
        else:
            raise ValueError(f"unexpected {token!r} among axes; write e.g. 'embed (heads dim)'")
    return tuple(factors)


def _sum(tokens: list[str]) -> Node:
    terms: list[Node] = []
    while True:
        factors = _product(tokens)
        terms.append(factors[0] if len(factors) == 1 else Product(factors))
        if not tokens:
            raise ValueError("a parenthesis is open at the end of the axes")
        if tokens.pop(0) == ")":
            return terms[0] if len(terms) == 1 else Sum(tuple(terms))
