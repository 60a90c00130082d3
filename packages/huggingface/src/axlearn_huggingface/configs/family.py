"""A published family: its fields, its layers here, its weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from axlearn_core.config import ConfigBase
from axlearn_core.training.model import Model
from axlearn_huggingface.configs.besides import BESIDES
from axlearn_huggingface.configs.fields import ConfigJson, Part
from axlearn_huggingface.configs.normal import differences, flattened, values
from axlearn_huggingface.weights import WeightMapping, WeightsError

_MOST = 12  # lines that an error lists


@dataclass(frozen=True)
class Family:
    """What a published model is there, and here.

    Attributes:
        model_type: its name in `config.json`.
        architecture: the class of transformers.
        build: the function in `axlearn_layers.families`.
        weights: the mapping of its tensors.
        parts: fields that are arguments of `build`.
        fixed: fields with the values that our layers compute. The first is written, unless it is
            None.
        ignored: further fields that change nothing.
    """

    model_type: str
    architecture: str
    build: Callable[..., Model.Config]
    weights: WeightMapping
    parts: tuple[Part, ...]
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    def model(self, config: ConfigJson, ignore: Collection[str] = ()) -> Model.Config:
        """Returns the config of the model that a `config.json` describes.

        Args:
            config: what the file holds.
            ignore: fields that nobody here knows and that change nothing.

        Raises:
            WeightsError: for a field, or a value, that our layers do not compute.
        """
        known = {name for part in self.parts for name in part.names} | self.fixed.keys()
        known |= BESIDES | self.ignored | set(ignore)
        for name, value in config.items():
            if name in self.fixed and value not in self.fixed[name]:
                raise WeightsError(
                    f"config.json: {name}={value!r} is not covered by our {self.model_type}, which "
                    f"computes {name}={self.fixed[name][0]!r}"
                )
            if (
                name not in known
                and not name.startswith("_")
                and value not in (None, False, [], {})
            ):
                raise WeightsError(
                    f"config.json: {name}={value!r} is not known of {self.model_type}. If it does "
                    f"not change what the model computes, say so: --ignore {name}"
                )
        return self.build(**self._arguments(config))

    def config_json(self, model: ConfigBase) -> dict[str, Any]:
        """Returns the fields of a `config.json` that describe a model.

        Raises:
            Mismatch: if it is not one of this family.
        """
        normal = flattened(model)
        try:
            config: dict[str, Any] = {
                "architectures": [self.architecture],
                "model_type": self.model_type,
                **{
                    name: allowed[0]
                    for name, allowed in self.fixed.items()
                    if allowed[0] is not None
                },
            }
            for part in self.parts:
                config |= part.write(normal)
            again = self.build(**self._arguments(config))
        except (LookupError, AttributeError, TypeError, ValueError, WeightsError) as error:
            raise Mismatch([f"{type(error).__name__}: {error}"]) from error
        if found := differences(values(normal), values(flattened(again))):
            raise Mismatch(found)
        return config

    def _arguments(self, config: ConfigJson) -> dict[str, Any]:
        return {name: value for part in self.parts for name, value in part.read(config).items()}


class Mismatch(Exception):
    """A model is not one of a family."""

    def __init__(self, differences: list[str]):
        super().__init__(differences)
        self.differences = differences


class Recognised(NamedTuple):
    """The family that a model is of, the fields that describe it, and other families that fit."""

    family: Family
    config: dict[str, Any]
    others: list[str]


def family_named(families: Collection[Family], model_type: str, architecture: str | None) -> Family:
    """Returns the family of a `config.json`.

    Raises:
        WeightsError: if there is none; it lists those that there are.
    """
    for family in families:
        if architecture == family.architecture or (
            architecture is None and model_type == family.model_type
        ):
            return family
    known = ", ".join(f"{family.architecture} ({family.model_type})" for family in families)
    what = model_type if architecture is None else f"{architecture} ({model_type})"
    raise WeightsError(f"no family here is {what}; there are {known}")


def recognise(
    families: Collection[Family], model: ConfigBase, name: str | None = None
) -> Recognised:
    """Finds the family that a model is of: the first that fits.

    Args:
        families: in order of preference.
        model: its config.
        name: the `model_type` that it has to have; None is any.

    Raises:
        WeightsError: if none fits; it says in what the nearest differs.
    """
    fits: list[tuple[Family, dict[str, Any]]] = []
    nearest: tuple[int, str, list[str]] | None = None
    for family in families:
        if name not in (None, family.model_type):
            continue
        try:
            fits.append((family, family.config_json(model)))
        except Mismatch as mismatch:
            # One line may be an error that hid all others.
            count = len(mismatch.differences) + 1000 * ("Error: " in mismatch.differences[0])
            if nearest is None or count < nearest[0]:
                nearest = (count, family.model_type, mismatch.differences)
    if fits:
        return Recognised(*fits[0], [family.model_type for family, _ in fits[1:]])
    if nearest is None:
        known = ", ".join(dict.fromkeys(family.model_type for family in families))
        raise WeightsError(f"no family is called {name!r}; there are {known}")
    _, near, lines = nearest
    more = [f"... and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    raise WeightsError(
        f"this model is none of the published families. From {near}, the nearest, it differs in:"
        + "".join(f"\n  {line}" for line in [*lines[:_MOST], *more])
    )
