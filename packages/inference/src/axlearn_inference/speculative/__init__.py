"""Speculative decoding: a draft proposes tokens, and the model judges several at once."""

from axlearn_inference.speculative.acceptance import Accepted, accept, probabilities
from axlearn_inference.speculative.decoder import Speculation, SpeculativeDecoder, Statistics
from axlearn_inference.speculative.drafts import Draft, LookupDraft, ModelDraft, Proposal

__all__ = [
    "Accepted",
    "Draft",
    "LookupDraft",
    "ModelDraft",
    "Proposal",
    "Speculation",
    "SpeculativeDecoder",
    "Statistics",
    "accept",
    "probabilities",
]
