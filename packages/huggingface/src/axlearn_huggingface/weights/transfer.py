"""Reads and writes weights by a mapping, one array at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from axlearn_core.module import Layer, flatten_paths, nest_paths
from axlearn_core.module.context import Tree
from axlearn_huggingface.weights.axes import Array
from axlearn_huggingface.weights.errors import WeightsError
from axlearn_huggingface.weights.lazy import LazyTensors
from axlearn_huggingface.weights.mapping import WeightMapping
from axlearn_huggingface.weights.matching import Step, Tensor, match
from axlearn_huggingface.weights.parameters import Parameter


def import_weights(mapping: WeightMapping, model: Layer, tensors: Mapping[str, Any]) -> Tree:
    """Returns the model's parameters, numpy arrays in the tree that `initialize` would return.

    Args:
        mapping: of the model's family.
        model: built with the sizes of the published one.
        tensors: by published name; each is read once, so it may be loaded then (`LazyTensors`).

    Raises:
        WeightsError: unless every parameter is set once, every tensor is used once, and all shapes
            fit.
    """
    arrays = {
        path: np.empty(spec.shape, jnp.dtype(spec.dtype))
        for path, spec in flatten_paths(model.parameter_specs()).items()
    }
    for parameter, array in imported(mapping, model, tensors):
        parameter.of(arrays[parameter.path])[...] = array
    return nest_paths(arrays)


def imported(
    mapping: WeightMapping, model: Layer, tensors: Mapping[str, Any]
) -> Iterator[tuple[Parameter, Array]]:
    """Yields each layer's parameters as soon as they are read, also of layers that are scanned.

    What was yielded is not kept, so that a model need not fit into memory. Arguments and errors
    are those of `import_weights`; only shapes are checked on the way.
    """
    tensors = _without_prefix(tensors, mapping.prefix)
    steps = match(mapping, model, tensors.keys())
    _check_ties(mapping, tensors, {each.name for step in steps for each in step.tensors})
    for step in steps:
        specs = [parameter.spec for parameter in step.parameters]
        arrays = [np.empty(spec.shape, jnp.dtype(spec.dtype)) for spec in specs]
        _read(step, arrays, tensors)
        yield from zip(step.parameters, arrays, strict=True)


def export_weights(mapping: WeightMapping, model: Layer, state: Tree) -> LazyTensors:
    """Returns tensors by published name, each made when it is read.

    Args:
        mapping: of the model's family.
        model: whose parameters they are.
        state: the parameters, arrays of numpy or jax.

    Raises:
        WeightsError: unless every parameter is used once.
    """
    arrays = flatten_paths(state)
    loaders, shapes = {}, {}
    for step in match(mapping, model, None):
        for tensor in step.tensors:
            name = mapping.prefix + tensor.name
            loaders[name] = partial(_write, step, tensor, arrays)
            shapes[name] = tensor.shape
    return LazyTensors(loaders, shapes)


def _read(step: Step, arrays: Sequence[Array], tensors: Mapping[str, Any]) -> None:
    for tensor in step.tensors:
        array = np.asarray(tensors[tensor.name])
        if array.shape != tensor.shape:
            raise WeightsError(
                f"{tensor.name} has the shape {array.shape}, but {tensor.shape} is what belongs to "
                f"{step}; build the model with the sizes of the published one"
            )
        for ours, theirs in step.pairs(arrays, tensor, array):
            ours[...] = theirs


def _write(step: Step, tensor: Tensor, arrays: Mapping[str, Any]) -> Array:
    parameters = [np.asarray(each.of(arrays[each.path])) for each in step.parameters]
    array = np.empty(tensor.shape, parameters[0].dtype)
    for ours, theirs in step.pairs(parameters, tensor, array):
        theirs[...] = ours
    return array


def _check_ties(mapping: WeightMapping, tensors: Mapping[str, Any], used: set[str]) -> None:
    for name, other in mapping.ties.items():
        spare = name in tensors and name not in used
        if spare and not np.array_equal(np.asarray(tensors[name]), np.asarray(tensors[other])):
            raise WeightsError(
                f"{name} differs from {other}, but the model has one parameter for both; "
                "build it untied"
            )


def _without_prefix(tensors: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    if not prefix:
        return tensors
    loaders = {name: partial(tensors.__getitem__, name) for name in tensors}
    return LazyTensors(loaders).renamed(lambda name: name.removeprefix(prefix))
