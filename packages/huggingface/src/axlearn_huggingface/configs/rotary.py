"""Rotary positions: `rope_parameters` of transformers 5, and the two fields of all before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from axlearn_core.config import ConfigBase
from axlearn_huggingface.configs.fields import ConfigJson, Place, value_at, window_of
from axlearn_huggingface.weights import WeightsError
from axlearn_layers import (
    DynamicNTKFrequencies,
    LinearFrequencies,
    Llama3Frequencies,
    RotaryFrequencies,
    YarnFrequencies,
)

_LENGTH = "max_position_embeddings"
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_ORIGINAL = "original_max_position_embeddings"


class Kind(NamedTuple):
    """A way of stretching wavelengths: our class, and their names of its fields."""

    ours: type[RotaryFrequencies]
    fields: Mapping[str, str]  # ours by theirs


KINDS: dict[str, Kind] = {
    "default": Kind(RotaryFrequencies, {}),
    "linear": Kind(LinearFrequencies, {"factor": "factor"}),
    "dynamic": Kind(DynamicNTKFrequencies, {"factor": "factor", _LENGTH: "original_length"}),
    "llama3": Kind(
        Llama3Frequencies,
        {
            "factor": "factor",
            "low_freq_factor": "low_turns",
            "high_freq_factor": "high_turns",
            _ORIGINAL: "original_length",
        },
    ),
    "yarn": Kind(
        YarnFrequencies,
        {
            "factor": "factor",
            _ORIGINAL: "original_length",
            "beta_fast": "fast_turns",
            "beta_slow": "slow_turns",
            "attention_factor": "amplitude",
            "truncate": "round_pairs",
        },
    ),
}
_SCALES = {"mscale", "mscale_all_dim"}  # of yarn; amplitude and scale of attention follow from them


@dataclass(frozen=True)
class Rotary:
    """The arguments `theta` and `frequencies` of a family.

    Attributes:
        at: where the model's config holds them.
        kinds: those of KINDS that the family's model has in transformers.
        theta: their default.
        fraction: whether the family has `rotary_fraction`, their `partial_rotary_factor`.
    """

    at: Place = "stack.layers.0.attention.qkv"
    kinds: tuple[str, ...] = tuple(KINDS)
    theta: float = 10_000.0
    fraction: bool = False

    @property
    def names(self) -> set[str]:
        names = {"rope_parameters", "rope_theta", "rope_scaling", _LENGTH, _ORIGINAL}
        return names | ({"partial_rotary_factor"} if self.fraction else set())

    def read(self, config: ConfigJson) -> dict[str, Any]:
        scaling = _scaling(config)
        found = {
            "theta": scaling.pop("rope_theta", config.get("rope_theta") or self.theta),
            **({"rotary_fraction": _fraction(config, scaling)} if self.fraction else {}),
        }
        frequencies = frequencies_of(config, scaling, self.kinds)
        return found if frequencies is None else {**found, "frequencies": frequencies}

    def write(self, model: ConfigBase) -> dict[str, Any]:
        rotary = value_at(model, self.at)
        scaling = scaling_of(rotary.frequencies)
        length = scaling.pop(_LENGTH, None)
        both = {"rope_theta": rotary.theta}
        if self.fraction:
            both["partial_rotary_factor"] = rotary.fraction
        return {
            **both,  # for all that do not know the next line
            "rope_parameters": {**both, **scaling},
            **({} if scaling["rope_type"] == "default" else {"rope_scaling": scaling}),
            **({} if length is None else {_LENGTH: length}),
        }


@dataclass(frozen=True)
class LatentRotary(Rotary):
    """`theta`, `frequencies` and `scale` of latent attention.

    Where wavelengths are stretched by YaRN, scores are scaled by (0.1 mscale_all_dim ln(factor) +
    1)^2 besides, and queries and keys by the ratio of that with mscale and with mscale_all_dim.
    """

    at: Place = "stack.layers.0.attention"

    def read(self, config: ConfigJson) -> dict[str, Any]:
        found = super().read(config)
        scaling = _scaling(config)
        if factor := scaling.get("mscale_all_dim"):
            width = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
            found["scale"] = width**-0.5 * _amplitude(scaling["factor"], factor) ** 2
        return found

    def write(self, model: ConfigBase) -> dict[str, Any]:
        found = super().write(model)
        attention = value_at(model, self.at)
        if attention.scale is not None and "rope_scaling" in found:
            width = attention.content_dim + attention.rotary_dim
            scaling = found["rope_scaling"]
            scale = math.sqrt(attention.scale * width**0.5)
            amplitude = scaling.pop("attention_factor", _amplitude(scaling["factor"], 1.0))
            step = 0.1 * math.log(scaling["factor"])
            scaling["mscale_all_dim"] = round((scale - 1) / step, 9)
            scaling["mscale"] = round((amplitude * scale - 1) / step, 9)
            found["rope_parameters"] = {"rope_theta": attention.theta, **scaling}
        return found


@dataclass(frozen=True)
class LocalAndGlobalRotary:
    """Gemma 3's: local layers have a theta of their own, which nothing stretches.

    Its arguments are `theta`, `frequencies`, `local_theta` and `local_per_global`; the kinds of the
    layers are in `layer_types`, or follow from `sliding_window_pattern`.
    """

    kinds: tuple[str, ...] = ("default", "linear")

    @property
    def names(self) -> set[str]:
        own = {"rope_local_base_freq", "layer_types", "sliding_window_pattern"}
        return own | {"rope_parameters", "rope_theta", "rope_scaling", _LENGTH}

    def read(self, config: ConfigJson) -> dict[str, Any]:
        parameters = config.get("rope_parameters") or {}
        scaling = dict(parameters.get(_GLOBAL) or config.get("rope_scaling") or {})
        local = dict(parameters.get(_LOCAL) or {})
        frequencies_of(config, local, ("default",))
        found = {
            "theta": scaling.pop("rope_theta", config.get("rope_theta") or 1e6),
            "local_theta": local.get("rope_theta") or config.get("rope_local_base_freq") or 1e4,
            "local_per_global": self._local_per_global(config),
        }
        frequencies = frequencies_of(config, scaling, self.kinds)
        return found if frequencies is None else {**found, "frequencies": frequencies}

    def write(self, model: ConfigBase) -> dict[str, Any]:
        layers = [layer.attention for layer in value_at(model, "stack.layers")]
        is_local = [window_of(layer.mask) is not None for layer in layers]
        first = is_local.index(False)
        there, local = layers[first].qkv, layers[0].qkv
        scaling = scaling_of(there.frequencies)
        return {
            "layer_types": [_LOCAL if each else _GLOBAL for each in is_local],
            "sliding_window_pattern": first + 1,
            "rope_theta": there.theta,
            "rope_local_base_freq": local.theta,
            **({} if scaling["rope_type"] == "default" else {"rope_scaling": scaling}),
            "rope_parameters": {
                _GLOBAL: {"rope_theta": there.theta, **scaling},
                _LOCAL: {"rope_theta": local.theta, "rope_type": "default"},
            },
        }

    def _local_per_global(self, config: ConfigJson) -> int:
        types = config.get("layer_types")
        if not types:
            return int(config.get("sliding_window_pattern", 6)) - 1
        period = types.index(_GLOBAL) + 1 if _GLOBAL in types else 0
        pattern = [_LOCAL] * (period - 1) + [_GLOBAL]
        if not period or types != (pattern * len(types))[: len(types)]:
            raise WeightsError(
                f"layer_types={types} must be a number of local layers before each global one"
            )
        return period - 1


def frequencies_of(
    config: ConfigJson, scaling: ConfigJson, kinds: tuple[str, ...]
) -> RotaryFrequencies.Config | None:
    """Returns how wavelengths are stretched, None if not at all.

    Args:
        config: knows the length to which the model was made.
        scaling: their parameters, without theta.
        kinds: those that the family has.

    Raises:
        WeightsError: for another one, or a parameter that it does not know.
    """
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in kinds:
        known = ", ".join(kinds)
        raise WeightsError(f"rope_scaling.rope_type={kind!r} is none that our layers know: {known}")
    if kind == "default":
        return None
    cls, fields = KINDS[kind]
    values = {name: value for name, value in scaling.items() if value is not None}
    spare = values.keys() - fields.keys() - {"type", "rope_type", "rope_theta"}
    if kind == "yarn":
        spare -= _SCALES
        one, other = values.get("mscale"), values.get("mscale_all_dim")
        if one and other and "attention_factor" not in values:
            factor = values["factor"]
            values["attention_factor"] = _amplitude(factor, one) / _amplitude(factor, other)
    if spare:
        raise WeightsError(f"rope_scaling.{min(spare)} is not known for the type {kind!r}")
    length = config.get(_ORIGINAL) or config.get(_LENGTH)
    values = {_ORIGINAL: length, _LENGTH: config.get(_LENGTH), **values}
    found = cls.default_config()
    return found.set(
        **{
            ours: values[theirs]
            for theirs, ours in fields.items()
            if values.get(theirs) is not None
        }
    )


def scaling_of(frequencies: RotaryFrequencies.Config) -> dict[str, Any]:
    """Returns their parameters, without theta.

    Raises:
        LookupError: for frequencies that they do not have.
    """
    for name, kind in KINDS.items():
        if type(frequencies) is kind.ours.Config:
            values = {theirs: getattr(frequencies, ours) for theirs, ours in kind.fields.items()}
            return {"rope_type": name, **{k: v for k, v in values.items() if v is not None}}
    raise LookupError(f"there is no published name for {type(frequencies).__qualname__}")


def _scaling(config: ConfigJson) -> dict[str, Any]:
    return dict(config.get("rope_parameters") or config.get("rope_scaling") or {})


def _fraction(config: ConfigJson, scaling: dict[str, Any]) -> float:
    there = scaling.pop("partial_rotary_factor", None)
    return float(there or config.get("partial_rotary_factor") or 1.0)


def _amplitude(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0
