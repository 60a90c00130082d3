"""Dimensions that know their logical axes, and how operations carry these along."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from axlearn_core.parallel.sharding import Rules

Factor = tuple[str | None, int]


@dataclass(frozen=True)
class Dim:
    """A dimension of an array.

    Attributes:
        size: how many entries it has.
        names: logical axes that it is made of, with their sizes, the slowest first: the dimension
            of [batch * seq] rows has both. What they leave of the size has no name.
    """

    size: int
    names: tuple[tuple[str, int], ...] = ()

    def factors(self) -> list[Factor]:
        rest = self.size // math.prod(size for _, size in self.names)
        return [*self.names, (None, rest)]


Dims = tuple[Dim, ...]


@dataclass(frozen=True)
class Array:
    """The shape of an array, the bytes of an element, and whether it depends on nothing."""

    dims: Dims
    itemsize: int
    constant: bool = False

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(dim.size for dim in self.dims)

    @cached_property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.itemsize

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(name for dim in self.dims for name, _ in dim.names)

    @cached_property
    def is_scores(self) -> bool:
        """Whether it has an entry for each pair of tokens of a sequence, as attention's scores."""
        return sum(name == "seq" for name, _ in self.factors) > 1

    @cached_property
    def factors(self) -> tuple[tuple[str, int], ...]:
        """All logical axes with their sizes."""
        return tuple(pair for dim in self.dims for pair in dim.names)


def labelled(shape: Sequence[int], axes: Sequence[str | None]) -> Dims:
    """Returns the dimensions of an array with one logical axis, or none, per dimension."""
    return tuple(
        Dim(size, ((name, size),) if name else ()) for size, name in zip(shape, axes, strict=True)
    )


def joined(shape: Sequence[int], several: Sequence[Dims]) -> Dims:
    """Returns the dimensions of what is computed, entry by entry, of arrays of a shape.

    Each dimension has the names of the first array that has any there.
    """
    fitting = [dims for dims in several if tuple(d.size for d in dims) == tuple(shape)]
    return tuple(
        next((dims[i] for dims in fitting if dims[i].names), Dim(size))
        for i, size in enumerate(shape)
    )


def matched(shape: Sequence[int], dims: Dims) -> Dims:
    """Guesses the names of a result's dimensions: those of the next one of the same size."""
    left = list(dims)
    result = []
    for size in shape:
        place = next((i for i, dim in enumerate(left) if dim.size == size), None)
        result.append(Dim(size) if place is None else left[place])
        if place is not None:
            del left[: place + 1]
    return tuple(result)


def reshaped(dims: Dims, shape: Sequence[int]) -> Dims:
    """Returns the dimensions after a reshape; of a name that is split, the slowest part keeps it.

    The factors of both shapes are matched from the left. Where they do not fit into each other,
    names are lost.
    """
    factors = [factor for dim in dims for factor in dim.factors() if factor[1] != 1]
    factors.reverse()
    result = []
    for size in shape:
        names: list[tuple[str, int]] = []
        left = size
        while left > 1 and factors:
            name, factor = factors.pop()
            if left % factor == 0:
                taken = factor
            elif factor % left == 0:
                taken = left
                factors.append((None, factor // left))
            else:
                return tuple(map(Dim, shape))
            left //= taken
            if name is not None:
                names.append((name, taken))
        result.append(Dim(size, tuple(names)))
    return tuple(result)


Factors = tuple[tuple[str, int], ...]
"""Logical axes with their sizes."""


class Division:
    """How arrays are divided: a mesh, the rules that map logical axes to it, and micro-batches.

    Args:
        sizes: of the mesh's axes.
        rules: the sharding rules.
        accumulation: the number of micro-batches.
        plain_attention: whether attention writes its scores to memory, and has its mask there.
            Kernels for GPUs and TPUs do not (arXiv:2205.14135).
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        rules: Rules,
        accumulation: int = 1,
        *,
        plain_attention: bool = False,
    ):
        self.sizes = sizes
        self.rules = rules
        self.accumulation = accumulation
        self.plain_attention = plain_attention
        self._axes: dict[str, tuple[str, ...]] = {}
        self._assigned: dict[Factors, dict[str, tuple[str, ...]]] = {}

    def axes_of(self, name: str) -> tuple[str, ...]:
        """Returns the mesh axes, larger than 1, that a logical axis is split over."""
        if name not in self._axes:
            axes = self.rules.get(name) or ()
            every = (axes,) if isinstance(axes, str) else axes
            self._axes[name] = tuple(axis for axis in every if self.sizes.get(axis, 1) > 1)
        return self._axes[name]

    def ways(self, axes: Iterable[str]) -> int:
        return math.prod(self.sizes[axis] for axis in axes)

    def assigned(self, factors: Factors) -> dict[str, tuple[str, ...]]:
        """Returns the mesh axes of each logical axis. Each is used once, and only if it divides."""
        if factors not in self._assigned:
            self._assigned[factors] = self._assign(factors)
        return self._assigned[factors]

    def _assign(self, factors: Factors) -> dict[str, tuple[str, ...]]:
        used: set[str] = set()
        result: dict[str, tuple[str, ...]] = {}
        for name, size in factors:
            if name in result:  # a second time, as in scores of queries by keys
                continue
            left = size // self.accumulation if name == "batch" else size
            chosen = []
            for axis in self.axes_of(name):
                if axis not in used and left % self.sizes[axis] == 0:
                    chosen.append(axis)
                    used.add(axis)
                    left //= self.sizes[axis]
            result[name] = tuple(chosen)
        return result

    def divides(self, array: Array) -> bool:
        """Returns whether every dimension is divisible by the mesh axes of its logical axes."""
        assigned = self.assigned(array.factors)
        wanted = {axis for name in assigned for axis in self.axes_of(name)}
        rows = dict(array.factors).get("batch", 0)
        split = {axis for axes in assigned.values() for axis in axes}
        return wanted <= split and rows % self.accumulation == 0

    def lies(self, array: Array) -> tuple[str, ...]:
        """Returns the mesh axes that an array is divided over.

        Vectors of tokens between two branches lie as the rule "residual_seq" says.
        """
        factors = array.factors
        if "residual_seq" in self.rules and array.names == {"batch", "seq", "embed"}:
            factors = tuple(("residual_seq" if n == "seq" else n, size) for n, size in factors)
        return tuple(axis for axes in self.assigned(factors).values() for axis in axes)

    def bytes(self, array: Array, without: Sequence[str] = ()) -> int:
        """Returns the bytes on one device, with the array whole along the axes `without`."""
        if (array.is_scores or array.constant) and not self.plain_attention:
            return 0
        ways = self.ways(axis for axis in self.lies(array) if axis not in without)
        if "batch" in array.names:
            ways *= self.accumulation
        return -(-array.bytes // ways)
