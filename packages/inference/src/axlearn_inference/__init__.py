"""Generation and serving of language models. Asking for a name loads what it needs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from axlearn_inference.decoding.beam import Hypothesis, beam_search
    from axlearn_inference.decoding.generate import Completion, complete, generate
    from axlearn_inference.loading import load, load_checkpoint
    from axlearn_inference.model import EncoderDecoding, Generating, LanguageModel
    from axlearn_inference.request import Constraint, Matcher, Request, Sampling, Token
    from axlearn_inference.text import TextStream

_WHERE = {
    "Completion": "decoding.generate",
    "Constraint": "request",
    "EncoderDecoding": "model",
    "Generating": "model",
    "Hypothesis": "decoding.beam",
    "LanguageModel": "model",
    "Matcher": "request",
    "Request": "request",
    "Sampling": "request",
    "TextStream": "text",
    "Token": "request",
    "beam_search": "decoding.beam",
    "complete": "decoding.generate",
    "generate": "decoding.generate",
    "load": "loading",
    "load_checkpoint": "loading",
}

__all__ = [
    "Completion",
    "Constraint",
    "EncoderDecoding",
    "Generating",
    "Hypothesis",
    "LanguageModel",
    "Matcher",
    "Request",
    "Sampling",
    "TextStream",
    "Token",
    "beam_search",
    "complete",
    "generate",
    "load",
    "load_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
