"""Which parameters and tensors belong together, found from names and our shapes alone."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from axlearn_core.module import Layer
from axlearn_huggingface.weights.axes import (
    Array,
    Axes,
    SizeError,
    cut,
    format_axes,
    infer_sizes,
    piece_names,
    shape_of,
)
from axlearn_huggingface.weights.checks import check_parameters, check_tensors
from axlearn_huggingface.weights.errors import WeightsError
from axlearn_huggingface.weights.mapping import Rule, WeightMapping, name_pattern
from axlearn_huggingface.weights.parameters import Parameter, named_parameters

Fields = tuple[tuple[str, str], ...]  # such as (("layer", "7"),)


class Tensor(NamedTuple):
    """A tensor of theirs, and what it has to do with the pieces of a step's parameters."""

    name: str
    axes: Axes
    shape: tuple[int, ...]
    first: int  # piece that it holds; the others follow
    at: Mapping[str, int]  # index into axes of these pieces, such as that of an expert


@dataclass(frozen=True)
class Step:
    """A rule at work: the parameters and tensors that it relates, such as those of one layer."""

    parameters: Sequence[Parameter]
    axes: Sequence[Axes]  # of each parameter
    tensors: Sequence[Tensor]
    sizes: Mapping[str, int]

    def pairs(
        self, parameters: Sequence[Array], tensor: Tensor, array: Array
    ) -> Iterator[tuple[Array, Array]]:
        """Yields views of ours and of a tensor's array. To convert, copy one to the other."""
        ours = [
            piece
            for parameter, axes in zip(parameters, self.axes, strict=True)
            for piece in cut(parameter, axes, self.sizes)
        ]
        for number, theirs in enumerate(cut(array, tensor.axes, self.sizes), tensor.first):
            mine = ours[number].at(tensor.at)
            yield mine.array, theirs.ordered(mine.names).array

    def __str__(self) -> str:
        return ", ".join(
            f"{parameter.name} {parameter.spec.shape} ({format_axes(axes)})"
            for parameter, axes in zip(self.parameters, self.axes, strict=True)
        )


def match(mapping: WeightMapping, model: Layer, present: Collection[str] | None) -> list[Step]:
    """Returns all steps, those of one array of the tree side by side.

    Args:
        mapping: the rules.
        model: whose parameters are to be set or read.
        present: names of the tensors that there are, or None if they are to be made.

    Raises:
        WeightsError: unless each parameter and each tensor is of exactly one step.
    """
    parameters = named_parameters(model, mapping.groups)
    steps = {id(rule): list(_steps(rule, parameters)) for rule in mapping.rules}
    idle = [rule for rule in mapping.rules if not steps[id(rule)] and not rule.optional]
    every = [step for each in steps.values() for step in each]
    check_parameters(parameters, [each.name for step in every for each in step.parameters], idle)
    check_tensors(mapping, present, [each.name for step in every for each in step.tensors])
    order = {parameter.path: place for place, parameter in enumerate(parameters.values())}
    return sorted(every, key=lambda step: min(order[each.path] for each in step.parameters))


def _steps(rule: Rule, parameters: Mapping[str, Parameter]) -> Iterator[Step]:
    patterns = [name_pattern(name) for name in rule.ours]
    found: dict[Fields, list[list[Parameter]]] = defaultdict(lambda: [[] for _ in patterns])
    for parameter in parameters.values():
        for place, pattern in enumerate(patterns):
            if matched := pattern.fullmatch(parameter.name):
                found[tuple(matched.groupdict().items())][place].append(parameter)
    for fields, matches in found.items():
        for group in itertools.product(*matches):  # one, unless a rule is too wide or half idle
            yield _step(rule, dict(fields), group)


def _step(rule: Rule, fields: Mapping[str, str], parameters: Sequence[Parameter]) -> Step:
    axes = rule.our_axes
    try:
        shapes = [parameter.spec.shape for parameter in parameters]
        sizes = infer_sizes(zip(axes, shapes, strict=True), rule.sizes)
        return Step(parameters, axes, list(_tensors(rule, fields, sizes)), sizes)
    except SizeError as error:
        raise WeightsError(
            f"{rule} does not fit {Step(parameters, axes, (), {})}: {error}"
        ) from None


def _tensors(rule: Rule, fields: Mapping[str, str], sizes: Mapping[str, int]) -> Iterator[Tensor]:
    first = 0
    for name, axes in zip(rule.theirs, rule.their_axes, strict=True):
        enumerated = rule.enumerated(name)
        shape = shape_of(axes, sizes)
        for numbers in itertools.product(*map(range, shape_of(tuple(enumerated), sizes))):
            at = dict(zip(enumerated, numbers, strict=True))
            yield Tensor(name.format(**fields, **at), axes, shape, first, at)
        first += len(piece_names(axes))
