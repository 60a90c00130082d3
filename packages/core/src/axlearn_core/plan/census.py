"""What a traced step holds: which arrays it makes, until when, and which products it computes.

The step is traced once, whole and without any mesh. Logical axes are carried from parameters and
batch to everything that is computed of them. How much of it falls on one device of some mesh is
then arithmetic: see `demand`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from axlearn_core.plan.labels import Array, Dim, Dims, joined, matched, reshaped
from axlearn_core.plan.products import (
    Event,
    KeysOrValues,
    Lookup,
    Operand,
    Product,
    convolution,
    dot,
    ragged_dot,
)


@dataclass
class Step:
    """One operation of a body, with what lives in it."""

    made: list[Array] = field(default_factory=list)
    freed: list[Array] = field(default_factory=list)  # after it
    events: list[Event] = field(default_factory=list)
    inner: Body | None = None
    trips: int = 1
    invariant: frozenset[str] = frozenset()  # parameters that are the same in all rounds of `inner`
    carried: frozenset[tuple[int, ...]] = frozenset()  # shapes that a round hands to the next one


@dataclass
class Body:
    """The operations of a program, or of a loop's body, in their order."""

    steps: list[Step]


@dataclass(frozen=True)
class Census:
    """What a step of training holds, besides its state.

    Attributes:
        body: the program.
        kept: activations: what the forward pass leaves behind for the backward pass to read.
        names: bytes of what layers name with `checkpoint_name`, of one layer and all devices.
        notes: what could not be counted.
    """

    body: Body
    kept: tuple[Array, ...]
    names: Mapping[str, int]
    notes: tuple[str, ...]


class Value(NamedTuple):
    """What a variable stands for."""

    array: Array
    roots: frozenset[int]  # buffers that have to live for it; none is a constant
    stored: bool  # whether it is such a buffer, and not computed where it is read
    parameter: str | None = None


def take_census(
    closed: ClosedJaxpr, arguments: Sequence[Array], parameters: Sequence[str | None]
) -> Census:
    """Walks over a traced step.

    Args:
        closed: the program, of flat arguments.
        arguments: what each argument is.
        parameters: the path of each argument that is a parameter, else None.
    """
    known: dict[tuple[int, ...], Dims] = {}
    for array, path in zip(arguments, parameters, strict=True):
        if path is not None:
            known.setdefault(array.shape, array.dims)
            known.setdefault(array.shape[1:], array.dims[1:])  # of one layer
    found = _Found(known)
    recorder = _Recorder(found)
    recorder.run(
        closed.jaxpr,
        [recorder.outside(array, path) for array, path in zip(arguments, parameters, strict=True)],
    )
    kept = tuple(recorder.kept())
    return Census(recorder.body(), kept, found.names, tuple(sorted(found.notes)))


@dataclass
class _Found:
    """What the walks of all bodies have in common."""

    known: dict[tuple[int, ...], Dims]  # dimensions of parameters, by shape
    names: dict[str, int] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)


class _Recorder:
    """Walks one body."""

    def __init__(self, found: _Found):
        self._found = found
        self._steps: list[Step] = []
        self._buffers: dict[int, Array] = {}  # that this body makes
        self._made_at: dict[int, int] = {}
        self._last_use: dict[int, int] = {}
        self._next = 0
        self._backward: int | None = None  # the step with which the backward pass begins

    def body(self) -> Body:
        for root, step in self._last_use.items():
            if root in self._buffers:
                self._steps[step].freed.append(self._buffers[root])
        return Body(self._steps)

    def kept(self) -> Iterator[Array]:
        """Yields what exists between the forward and the backward pass and is used after that.

        Parameters in another dtype, and gradients that a forward pass makes, are not among it.
        """
        start, parameters = self._backward, {tuple(sorted(shape)) for shape in self._found.known}
        for root, array in self._buffers.items():
            if start is None or not self._made_at[root] < start <= self._last_use[root]:
                continue
            if "batch" in array.names or tuple(sorted(array.shape)) not in parameters:
                yield array

    def outside(self, array: Array, parameter: str | None = None) -> Value:
        """Returns the value of what is there before the body runs."""
        self._next += 1
        return Value(array, frozenset([self._next]), True, parameter)

    def run(self, jaxpr: Jaxpr, arguments: Sequence[Value]) -> list[Value]:
        values = dict(zip(jaxpr.invars, arguments, strict=True))
        values |= {var: self._constant(var.aval) for var in jaxpr.constvars}

        def read(var: Any) -> Value:
            return self._constant(var.aval) if isinstance(var, Literal) else values[var]

        for eqn in jaxpr.eqns:
            results = self._visit(eqn, [read(var) for var in eqn.invars])
            values |= zip(eqn.outvars, results, strict=True)
        results = [read(var) for var in jaxpr.outvars]
        self._use(*results)
        return results

    # One operation.

    def _visit(self, eqn: JaxprEqn, args: list[Value]) -> list[Value]:
        name = eqn.primitive.name
        if self._backward is None and str(eqn.source_info.name_stack).startswith("transpose("):
            self._backward = len(self._steps)  # that is how jax calls what it transposes
        called = _called(eqn)
        if called is not None:
            return self.run(called, args)
        if name == "scan":
            return self._scan(eqn, args)
        if name in ("while", "cond"):
            return self._choice_or_loop(eqn, args)
        if name in ("dot_general", "ragged_dot_general", "conv_general_dilated"):
            return [self._product(eqn, args)]
        if name == "pallas_call":
            return self._kernel(eqn, args)
        if name.startswith(("reduce_", "arg")) and "axes" in eqn.params:
            return [self._reduction(eqn, args[0], out.aval) for out in eqn.outvars]
        if name == "gather":
            return [self._lookup(eqn, args)]
        if name.startswith("scatter"):
            return [self._scatter(eqn, args)]
        if name == "name":
            self._found.names[eqn.params["name"]] = args[0].array.bytes
            if re.search("attention_(key|value)$", eqn.params["name"]):
                self._step(args, events=[KeysOrValues(args[0].array)])
        return [self._entrywise(eqn, args, out.aval) for out in eqn.outvars]

    def _scan(self, eqn: JaxprEqn, args: list[Value]) -> list[Value]:
        consts, carries = eqn.params["num_consts"], eqn.params["num_carry"]
        length, jaxpr = eqn.params["length"], eqn.params["jaxpr"].jaxpr
        args = [self._stored(arg) for arg in args]
        own, init, xs = args[:consts], args[consts : consts + carries], args[consts + carries :]
        slices = [v._replace(array=Array(v.array.dims[1:], v.array.itemsize)) for v in xs]
        # A carry may get its names in the body, so that the second walk is the one that counts.
        for _ in range(2):
            inner = _Recorder(self._found)
            outside = [inner.outside(v.array, v.parameter) for v in (*own, *init, *slices)]
            results = inner.run(jaxpr, outside)
            init = [
                v._replace(array=Array(_either(v.array.dims, r.array.dims), v.array.itemsize))
                for v, r in zip(init, results[:carries], strict=True)
            ]
        body = inner.body()
        out = [r.array for r in results[:carries]] + [
            Array((Dim(length), *r.array.dims), r.array.itemsize) for r in results[carries:]
        ]
        invariant = frozenset(v.parameter for v in own if v.parameter is not None)
        carried = frozenset(array.shape for array in out[:carries])
        return self._made(args, out, inner=body, trips=length, invariant=invariant, carried=carried)

    def _choice_or_loop(self, eqn: JaxprEqn, args: list[Value]) -> list[Value]:
        params = eqn.params
        if eqn.primitive.name == "cond":
            closed = max(params["branches"], key=lambda branch: len(branch.jaxpr.eqns))
            args = args[1:]
        else:
            self._found.notes.add("a loop whose length only the data tell counts as one round")
            closed = params["body_jaxpr"]
            args = args[params["cond_nconsts"] :]
        args = [self._stored(arg) for arg in args]
        inner = _Recorder(self._found)
        outside = [inner.outside(v.array, v.parameter) for v in args]
        results = inner.run(closed.jaxpr, outside)
        return self._made(args, [r.array for r in results], inner=inner.body())

    def _product(self, eqn: JaxprEqn, args: list[Value]) -> Value:
        shape, itemsize = _shape(eqn.outvars[0].aval), _itemsize(eqn.outvars[0].aval)
        operands = [Operand(v.array, v.parameter) for v in args[:2]]
        if eqn.primitive.name == "conv_general_dilated":
            features = eqn.params["dimension_numbers"].rhs_spec[0]
            product = convolution(operands, features, shape, itemsize)
        elif eqn.primitive.name == "dot_general":
            product = dot(operands, eqn.params["dimension_numbers"], shape, itemsize)
        else:
            numbers = eqn.params["ragged_dot_dimension_numbers"].dot_dimension_numbers
            groups = args[2].array.shape[-1]
            product = ragged_dot(operands, numbers, groups, shape, itemsize)
            product = replace(product, out=self._like_a_parameter(product.out))
        return self._made(args, [product.out], events=[product])[0]

    def _kernel(self, eqn: JaxprEqn, args: list[Value]) -> list[Value]:
        estimate = eqn.params.get("cost_estimate")
        if estimate is None:
            self._found.notes.add(
                "a kernel that does not estimate its own cost counts as no operations"
            )
        out = []
        for var in eqn.outvars:
            shape = _shape(var.aval)
            best = next((v.array.dims for v in args if v.array.shape == shape), None)
            dims = best or max((matched(shape, v.array.dims) for v in args), key=_named)
            out.append(Array(dims, _itemsize(var.aval)))
        operands = tuple(Operand(v.array, None) for v in args)
        flops = float(estimate.flops) if estimate is not None else 0.0
        return self._made(args, out, events=[Product(flops, operands, out[0], ())])

    def _reduction(self, eqn: JaxprEqn, arg: Value, aval: Any) -> Value:
        axes = eqn.params["axes"]
        kept = tuple(dim for i, dim in enumerate(arg.array.dims) if i not in axes)
        out = Array(kept, _itemsize(aval))
        summed = tuple(arg.array.dims[i] for i in axes)
        event = Product(0.0, (), out, summed)
        return self._made([arg], [out], events=[event])[0]

    def _lookup(self, eqn: JaxprEqn, args: list[Value]) -> Value:
        """Reads rows: the result has the dimensions of the indices, then those of a row."""
        table, indices = args[0].array, args[1].array
        shape = _shape(eqn.outvars[0].aval)
        numbers = eqn.params["dimension_numbers"]
        collapsed = numbers.collapsed_slice_dims
        rest = iter(dim for i, dim in enumerate(table.dims) if i not in collapsed)
        index_dims = iter(indices.dims[:-1])
        dims = []
        for place, size in enumerate(shape):
            dim = next(rest if place in numbers.offset_dims else index_dims, Dim(size))
            dims.append(dim if dim.size == size else Dim(size))
        out = Array(tuple(dims), _itemsize(eqn.outvars[0].aval))
        numbered = tuple(table.dims[i] for i in collapsed)
        events = [Lookup(Operand(table, args[0].parameter), out, numbered)]
        return self._made(args, [out], events=events if args[0].parameter else [])[0]

    def _scatter(self, eqn: JaxprEqn, args: list[Value]) -> Value:
        """Adds to rows in place, as the gradient of a table does."""
        target, rows = args[0].array, args[2].array
        out = self._like_a_parameter(target)
        places = eqn.params["dimension_numbers"].inserted_window_dims
        numbered = tuple(out.dims[i] for i in places)
        events = [Lookup(Operand(out, None), rows, numbered)] if out.names else []
        return self._made(args, [out], events=events)[0]

    def _entrywise(self, eqn: JaxprEqn, args: list[Value], aval: Any) -> Value:
        array = Array(self._dims(eqn, args, aval), _itemsize(aval))
        roots = frozenset[int]().union(*(v.roots for v in args))
        heavy = {v.roots for v in args if v.roots and 2 * v.array.bytes >= array.bytes}
        if len(heavy) > 1 or eqn.primitive.name in _ALWAYS_MADE:
            return self._made(args, [array])[0]
        parameter = next((v.parameter for v in args if v.parameter is not None), None)
        same = eqn.primitive.name in ("name", "reshape", "squeeze", "expand_dims")
        return Value(array, roots, same and all(v.stored for v in args), parameter)

    def _dims(self, eqn: JaxprEqn, args: list[Value], aval: Any) -> Dims:
        name, shape = eqn.primitive.name, _shape(aval)
        if not args:
            return tuple(map(Dim, shape))
        first = args[0].array.dims
        if name == "transpose":
            return tuple(first[i] for i in eqn.params["permutation"])
        if name == "reshape":
            return reshaped(first, shape)
        if name == "broadcast_in_dim":
            places = dict(zip(eqn.params["broadcast_dimensions"], first, strict=True))
            found = [places.get(i, Dim(size)) for i, size in enumerate(shape)]
            return tuple(
                d if d.size == size else Dim(size) for d, size in zip(found, shape, strict=True)
            )
        if name in ("slice", "dynamic_slice", "pad", "concatenate", "split"):
            return tuple(_resized(d, size) for d, size in zip(first, shape, strict=True))
        dims = joined(shape, [v.array.dims for v in args])
        return dims if any(d.names for d in dims) else matched(shape, first)

    # Buffers.

    def _made(
        self,
        args: Sequence[Value],
        arrays: Sequence[Array],
        *,
        events: Sequence[Event] = (),
        **loop: Any,
    ) -> list[Value]:
        step = self._step(args, events=events, **loop)
        values = []
        for array in arrays:
            value = self.outside(array)
            (root,) = value.roots
            self._buffers[root] = array
            self._made_at[root] = len(self._steps) - 1
            step.made.append(array)
            values.append(value)
        self._use(*values)
        return values

    def _stored(self, value: Value) -> Value:
        """Writes a value that would be computed where it is read; loops read what is there."""
        if value.stored:
            return value
        array = replace(value.array, constant=not value.roots)
        return self._made([value], [array])[0]._replace(parameter=value.parameter)

    def _step(self, args: Sequence[Value], **parts: Any) -> Step:
        step = Step(**{name: part for name, part in parts.items() if part})
        self._steps.append(step)
        self._use(*args)
        return step

    def _use(self, *values: Value) -> None:
        if self._steps:
            for value in values:
                self._last_use |= dict.fromkeys(value.roots, len(self._steps) - 1)

    def _constant(self, aval: Any) -> Value:
        dims = tuple(map(Dim, _shape(aval)))
        return Value(Array(dims, _itemsize(aval)), frozenset(), False)

    def _like_a_parameter(self, array: Array) -> Array:
        """Returns the gradient of a parameter with its dimensions, which rows do not give it."""
        return Array(self._found.known.get(array.shape, array.dims), array.itemsize)


_ALWAYS_MADE = frozenset(["concatenate", "sort", "cumsum", "top_k", "dynamic_update_slice"])


def _called(eqn: JaxprEqn) -> Jaxpr | None:
    """Returns the program that an operation stands for."""
    if eqn.primitive.name in ("scan", "while", "cond", "pallas_call"):
        return None
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = eqn.params.get(name)
        if inner is not None:
            jaxpr: Jaxpr = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
            return jaxpr
    return None


def _either(first: Dims, second: Dims) -> Dims:
    return tuple(a if a.names else b for a, b in zip(first, second, strict=True))


def _resized(dim: Dim, size: int) -> Dim:
    """A part of a dimension, or a longer one, keeps its only name."""
    if dim.size == size:
        return dim
    return Dim(size, ((dim.names[0][0], size),) if len(dim.names) == 1 else ())


def _named(dims: Dims) -> int:
    return sum(bool(dim.names) for dim in dims)


def _shape(aval: Any) -> tuple[int, ...]:
    return tuple(getattr(aval, "shape", ()))


def _itemsize(aval: Any) -> int:
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jnp.issubdtype(dtype, jax.dtypes.extended):
        return 8  # a random key
    return int(dtype.itemsize)
