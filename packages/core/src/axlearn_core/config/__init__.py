"""What to build: typed, partially specified object factories, and how to edit and write them."""

from axlearn_core.config.callables import CallableConfig, config_for
from axlearn_core.config.edit import Replacement, find, merged, missing, replace, visit
from axlearn_core.config.errors import (
    BuildError,
    ConfigError,
    FieldTypeError,
    FrozenConfigError,
    MissingFieldsError,
    RequiredUsedError,
    UnknownFieldError,
    near_names,
)
from axlearn_core.config.factory import ConfigModifier, ConfigOr, Configurable, maybe_instantiate
from axlearn_core.config.origin import setting_as
from axlearn_core.config.overrides import apply_overrides, declared, paths, where
from axlearn_core.config.record import ConfigBase
from axlearn_core.config.required import REQUIRED
from axlearn_core.config.serialize import from_json, to_json
from axlearn_core.config.text import Difference, canonical, config_hash, diff, format_value, to_text
from axlearn_core.config.word import Word

__all__ = [
    "REQUIRED",
    "BuildError",
    "CallableConfig",
    "ConfigBase",
    "ConfigError",
    "ConfigModifier",
    "ConfigOr",
    "Configurable",
    "Difference",
    "FieldTypeError",
    "FrozenConfigError",
    "MissingFieldsError",
    "Replacement",
    "RequiredUsedError",
    "UnknownFieldError",
    "Word",
    "apply_overrides",
    "canonical",
    "config_for",
    "config_hash",
    "declared",
    "diff",
    "find",
    "format_value",
    "from_json",
    "maybe_instantiate",
    "merged",
    "missing",
    "near_names",
    "paths",
    "replace",
    "setting_as",
    "to_json",
    "to_text",
    "visit",
    "where",
]
