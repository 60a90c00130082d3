"""Which documents are left out."""

from axlearn_inputs.filters.characters import CharacterFilter
from axlearn_inputs.filters.decontamination import Decontamination
from axlearn_inputs.filters.exact_duplicates import ExactDuplicates
from axlearn_inputs.filters.filter import DocumentFilter, FilterChain
from axlearn_inputs.filters.length import LengthFilter
from axlearn_inputs.filters.near_duplicates import NearDuplicates
from axlearn_inputs.filters.repetition import RepetitionFilter

__all__ = [
    "CharacterFilter",
    "Decontamination",
    "DocumentFilter",
    "ExactDuplicates",
    "FilterChain",
    "LengthFilter",
    "NearDuplicates",
    "RepetitionFilter",
]
