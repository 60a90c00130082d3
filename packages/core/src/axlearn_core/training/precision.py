"""In what numbers a trainer computes: a recipe, by config path."""

from __future__ import annotations

from typing import Any, Final, Literal

from axlearn_core.config import (
    REQUIRED,
    ConfigBase,
    ConfigError,
    ConfigModifier,
    apply_overrides,
    find,
    near_names,
)
from axlearn_core.plugins import get_registry

DTYPES: Final = ("float32", "bfloat16", "float16", "float64")


class Precision(ConfigModifier):
    """Sets a trainer's dtypes, and which parts of its model compute in others.

    `parts` are overrides (see `apply_overrides`), made in their order, so a recipe can name
    components by what plugins registered. FP8 products in feed-forward layers, bfloat16 elsewhere::

        Precision.Config(
            compute_dtype="bfloat16",
            parts=[
                "model.**.gate_up=layers/quantized_linear",
                "model.**.down=layers/quantized_linear",
            ],
        )

    What no path names stays as it is. A field that is None changes nothing.
    """

    class Config(ConfigModifier.Config):
        compute_dtype: str | None = None
        gradient_dtype: str | None = None
        accumulation_dtype: str | None = None
        parts: list[str] = []  # "path=value" words

    def __call__(self, cfg: ConfigBase) -> ConfigBase:
        fields: dict[str, Any] = dict(self.config.items())
        parts = fields.pop("parts")
        cfg.set(**{name: value for name, value in fields.items() if value is not None})
        return apply_overrides(cfg, parts, resolve=get_registry().lookup)


class EightBits(ConfigModifier):
    """Puts layers that multiply numbers of eight bits where others of the same parameters are.

    Those of a model, but for what is below a path segment that `keep` names. One that is of
    another class than a key of `swaps` says, be it a subclass, stays.
    """

    class Config(ConfigModifier.Config):
        format: Literal["float8", "int8"] = REQUIRED
        swaps: dict[str, str] = REQUIRED  # registered names: "layers/linear": "layers/..."
        keep: list[str] = ["head", "router"]  # small, and what they round is what is chosen

    def __call__(self, cfg: ConfigBase) -> ConfigBase:
        registry, words = get_registry(), []
        for old, new in self.config.swaps.items():
            kind = registry.lookup(old)
            for path, node in find(cfg, kind):
                segments = path.split(".")
                kept = segments[0] != "model" or set(segments) & set(self.config.keep)
                if type(node) is kind.Config and not kept:
                    words += [f"{path}={new}", f"{path}.format={self.config.format}"]
        if not words:
            raise ConfigError(
                f"nothing to multiply in eight bits: the model has none of "
                f"{', '.join(self.config.swaps)}, but below {' or '.join(self.config.keep)}"
            )
        return apply_overrides(cfg, words, resolve=registry.lookup)


def check_dtype(field: str, dtype: str | None) -> None:
    """Raises a ConfigError if a trainer cannot compute or sum in a dtype."""
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(
            f"{field} (={dtype!r}) must be one of {', '.join(DTYPES)}.{near_names(dtype, DTYPES)} "
            "Products of eight bits are a matter of layers: put QuantizedLinear in their place"
        )
