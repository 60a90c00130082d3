"""Decodes one batch from its prompts to its ends."""

from axlearn_inference.decoding.beam import Hypothesis, beam_search
from axlearn_inference.decoding.generate import Completion, complete, generate

__all__ = ["Completion", "Hypothesis", "beam_search", "complete", "generate"]
