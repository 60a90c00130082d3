"""A model's parameters by names that do not tell how its layers are arranged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from axlearn_core.module import Layer, ParameterSpec, flatten_paths
from axlearn_huggingface.weights.errors import WeightsError, listing
from axlearn_layers import SequenceLayer, Stack


class Parameter(NamedTuple):
    """A parameter of one layer, and where it is in the tree of all parameters."""

    name: str  # such as stack/7/attention/output/weight
    spec: ParameterSpec  # without the axes of stacking
    path: str  # such as stack/layer/attention/output/weight
    indices: tuple[int, ...]  # into the leading axes of what is there

    def of(self, array: Any) -> Any:
        """Returns the part of the tree's array that is this parameter: a view, if numpy's."""
        return array[(*self.indices, ...)]


def named_parameters(
    model: Layer, groups: Mapping[str, int] = MappingProxyType({})
) -> dict[str, Parameter]:
    """Returns all parameters by name, layers of a stack in the order of computation.

    The layers of a `Stack` are numbered below its name, whether they are scanned, listed or follow
    a pattern: `embedding/weight`, `stack/7/attention/output/weight`, `encoder/stack/0/norm/scale`.
    Those of a stack in `groups` have two numbers, of the group and within it.

    Raises:
        WeightsError: if a layer other than a `Stack` arranges parameters in its own way.
    """
    found = {parameter.name: parameter for parameter in _walk(model, "", "", (), groups)}
    declared = set(flatten_paths(model.parameter_specs()))
    if strange := declared ^ {parameter.path for parameter in found.values()}:
        raise WeightsError(
            "some parameters are not where the layers that declare them are, or declared by "
            f"none:{listing(strange)}\nA layer that stacks others has to be a Stack."
        )
    return found


def _walk(
    layer: Layer, name: str, path: str, indices: tuple[int, ...], groups: Mapping[str, int]
) -> Iterator[Parameter]:
    for own, spec in layer.own_parameters().items():
        yield Parameter(name + own, spec, path + own, indices)
    for key, child in layer.children.items():
        if isinstance(child, Stack):
            for number, each in enumerate(child.unrolled()):
                below = "".join(f"{part}/" for part in (key, *each.path))
                within = name + _numbered(key, number, groups.get(name + key, 1))
                yield from _walk(each.layer, within, path + below, indices + each.indices, groups)
            for own, other in child.children.items():  # what its layers share, such as a bias
                if isinstance(other, Layer) and not isinstance(other, SequenceLayer):
                    below = f"{key}/{own}/"
                    yield from _walk(other, name + below, path + below, indices, groups)
        elif isinstance(child, Layer):
            yield from _walk(child, f"{name}{key}/", f"{path}{key}/", indices, groups)


def _numbered(stack: str, number: int, group: int) -> str:
    if group == 1:
        return f"{stack}/{number}/"
    return f"{stack}/{number // group}/{number % group}/"
