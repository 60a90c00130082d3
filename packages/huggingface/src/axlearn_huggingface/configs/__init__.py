"""A published model's `config.json` into our config and back, by tables that are data."""

from axlearn_huggingface.configs.family import Family, family_named, recognise
from axlearn_huggingface.configs.fields import ConfigJson, Count, Field, Width
from axlearn_huggingface.configs.rotary import LatentRotary, LocalAndGlobalRotary, Rotary

__all__ = [
    "ConfigJson",
    "Count",
    "Family",
    "Field",
    "LatentRotary",
    "LocalAndGlobalRotary",
    "Rotary",
    "Width",
    "family_named",
    "recognise",
]
